"""What the tree looks like: rooms, circles, sizes. `python tests/house.py [ROOT]` prints it for each package."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("nbnorm", "minitrain")


@dataclass(frozen=True)
class Function:
    """A function's size; `compiled` says whether Numba compiles it."""

    path: str
    name: str
    lines: int
    arguments: int
    compiled: bool


class House:
    """The modules below a root and what they import, type-only imports and those inside functions included."""

    def __init__(self, root: Path, packages: tuple[str, ...] = PACKAGES) -> None:
        self.root = root
        self.paths: dict[str, Path] = {}
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                self.paths[".".join(parts).removesuffix(".__init__")] = path
        self.trees = {module: ast.parse(path.read_text()) for module, path in self.paths.items()}

    def imports(self, module: str, whole_file: bool = True) -> Iterator[str]:
        """Names that a module imports: modules, and what it takes from them as `module.name`."""
        tree = self.trees[module]
        for node in ast.walk(tree) if whole_file else tree.body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def needs(self, module: str) -> set[str]:
        """Modules of these packages that a module imports."""
        found = set()
        for name in self.imports(module):
            while name and name not in self.paths:
                name = name.rpartition(".")[0]
            if name and name != module:
                found.add(name)
        return found

    def circles(self) -> list[tuple[str, ...]]:
        """Groups of modules that need each other, by Tarjan's algorithm."""
        needs = {module: sorted(self.needs(module)) for module in self.paths}
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        circles: list[tuple[str, ...]] = []

        def visit(module: str) -> None:
            index[module] = low[module] = len(index)
            stack.append(module)
            for other in needs[module]:
                if other not in index:
                    visit(other)
                    low[module] = min(low[module], low[other])
                elif other in stack:
                    low[module] = min(low[module], index[other])
            if low[module] == index[module]:
                first = stack.index(module)
                group = stack[first:]
                del stack[first:]
                if len(group) > 1:
                    circles.append(tuple(sorted(group)))

        for module in self.paths:
            if module not in index:
                visit(module)
        return circles

    def functions(self) -> Iterator[Function]:
        """All functions and methods."""
        for module, tree in self.trees.items():
            handed_over = _handed_to_kernel(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    decorators = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
                    each = node.args
                    count = len(each.posonlyargs) + len(each.args) + len(each.kwonlyargs)
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    compiled = bool(decorators & {"kernel", "device", "tile.named"}) or node.name in handed_over
                    yield Function(str(self.paths[module].relative_to(self.root)), node.name, lines, count, compiled)

    def folders(self) -> Counter[str]:
        """Source files of each folder, `__init__.py` aside."""
        return Counter(
            str(path.parent.relative_to(self.root)) for path in self.paths.values() if path.name != "__init__.py"
        )

    def lines(self) -> dict[str, int]:
        """Lines of each file."""
        return {str(path.relative_to(self.root)): path.read_text().count("\n") for path in self.paths.values()}


def _handed_to_kernel(tree: ast.Module) -> set[str]:
    """Functions that a call such as `kernel(tile.named(correlate))` compiles."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "kernel"]
    return {node.id for call in calls for node in ast.walk(call) if isinstance(node, ast.Name)}


def describe(root: Path) -> str:
    """What `python tests/house.py` prints."""
    text = []
    for package in PACKAGES:
        house = House(root, (package,))
        functions = list(house.functions())
        lines = house.lines()
        longest = max(lines, key=lambda path: lines[path])
        compiled = [each for each in functions if each.compiled]
        slowest = max(functions, key=lambda each: each.lines)
        widest = max(compiled, key=lambda each: each.arguments, default=None)
        over = [each for each in compiled if each.arguments > 10]
        text.append(f"{package}: {len(house.paths)} modules, {sum(lines.values())} lines")
        for folder, count in sorted(house.folders().items()):
            text.append(f"  {count:3} files  {folder}")
        text.append(f"  longest file      {longest}, {lines[longest]} lines; {_above(lines.values(), 250)} above 250")
        text.append(f"  longest function  {slowest.path} {slowest.name}, {slowest.lines} lines")
        if widest is not None:
            text.append(f"  most arguments    {widest.path} {widest.name}, {widest.arguments} (compiled functions)")
            text.append(f"                    {len(over)} of {len(compiled)} compiled functions above ten")
    circles = House(root).circles()
    text.append(f"circles, type-only imports included: {len(circles)}")
    text.extend("  " + ", ".join(circle) for circle in circles)
    return "\n".join(text)


def _above(values: object, limit: int) -> int:
    return sum(value > limit for value in values)  # type: ignore[attr-defined]


if __name__ == "__main__":
    print(describe(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]))
