"""Imports point one way, and importing the packages loads nothing optional."""

import ast
import subprocess
import sys

import pytest
from paths import ROOT

# Each room may import from those before it.
ORDER = ["nbnorm", "minitrain.kernels", "minitrain.layers", "minitrain.compile", "minitrain.model",
         "minitrain.training",
         "minitrain.experiments", "minitrain.cli"]  # fmt: skip
OPTIONAL = ["rich", "matplotlib", "sklearn", "safetensors", "pooch", "mpi4py", "onnx", "torch", "jax"]


def modules():
    for package in ("nbnorm", "minitrain"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path, whole_file=True):
    """Names of all modules a file imports; only those at the top of the file unless `whole_file`."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if whole_file else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    matching = [index for index, name in enumerate(ORDER) if module == name or module.startswith(name + ".")]
    return matching[-1] if matching else None


@pytest.mark.parametrize(("path", "module"), list(modules()), ids=lambda value: str(value) if "." in str(value) else "")
def test_imports_point_one_way(path, module):
    own = room(module)
    for name in imports(path):
        other = room(name)
        if own is not None and other is not None:
            assert other <= own, f"{module} imports {name}"
        if module.startswith("nbnorm"):
            assert not name.startswith("minitrain"), f"{module} imports {name}"


def test_layers_do_not_import_each_other_or_the_graph():
    for path, module in modules():
        if module.startswith("minitrain.layers.") and path.name != "__init__.py":
            for name in imports(path):
                shared = name.startswith("minitrain.layers._")  # what several layers are built on
                shared |= module.startswith("minitrain.layers.fused.")  # stand for layers that they name
                assert shared or not name.startswith("minitrain.layers"), f"{module} imports {name}"
                assert not name.startswith(("minitrain.graph.graph", "minitrain.compile")), f"{module} imports {name}"


def test_optimizers_see_only_arrays():
    for name in imports(ROOT / "minitrain" / "optimizers.py"):
        assert not name.startswith(
            ("minitrain.model.model", "minitrain.layer", "minitrain.graph.graph", "minitrain.compile")
        )


def test_only_simd_touches_llvmlite():
    for path, module in modules():
        if not module.startswith("nbnorm.simd"):
            found = [name for name in imports(path) if name.startswith("llvmlite")]
            # Versions and the host's name, for the cache's key and for show_config: nothing that generates code.
            allowed = module in ("nbnorm.jit.internals.cache", "nbnorm.config") and set(found) <= {
                "llvmlite",
                "llvmlite.binding",
            }
            assert not found or allowed, f"{module} imports {found}"


def test_optional_packages_are_imported_inside_functions():
    for path, module in modules():
        for name in imports(path, whole_file=False):
            assert name.split(".")[0] not in OPTIONAL, f"{module} imports {name} at its top"


@pytest.mark.parametrize("package", ["nbnorm", "minitrain", "minitrain.cli"])
def test_importing_loads_nothing_optional(package):
    check = f"import sys, {package}; print(*[name for name in {OPTIONAL!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []
