"""The house keeps its shape: every module has a room, imports go down, nothing is too large to be read."""

import itertools
import os
import shutil
import subprocess
import sys
import textwrap

import house as plan
import pytest
from paths import ROOT

# Each room may import from itself and from those above it in this list; a module is in the room with the longest name
# that begins its own. A new file without a room fails: give it one.
ROOMS = [
    "nbnorm.jit.files", "nbnorm.jit.sources", "nbnorm.jit.arrays", "nbnorm.jit.checks", "nbnorm.jit.internals",
    "nbnorm.jit", "nbnorm.simd", "nbnorm.kernels", "nbnorm.layout", "nbnorm.row_layout", "nbnorm.row_outputs",
    "nbnorm.halves", "nbnorm.row_norms", "nbnorm.batch_norm", "nbnorm.layer_norm", "nbnorm.rms_norm",
    "nbnorm.group_norm", "nbnorm.instance_norm", "nbnorm.filter_response_norm",
    "nbnorm.weight_standardization", "nbnorm.folding", "nbnorm.config", "nbnorm.warmup", "nbnorm.__init__",
    "minitrain.version", "minitrain.optional", "minitrain.files", "minitrain.arrays",
    "minitrain.kernels", "minitrain.initializers", "minitrain.sealed", "minitrain.exclusive",
    "minitrain.spec", "minitrain.layer", "minitrain.testing",
    "minitrain.layers", "minitrain.layers.fused", "minitrain.schedules", "minitrain.optimizers",
    "minitrain.losses", "minitrain.metrics", "minitrain.graph", "minitrain.compile", "minitrain.terminal",
    "minitrain.model", "minitrain.objective", "minitrain.augment", "minitrain.data", "minitrain.training",
    "minitrain.callbacks",
    "minitrain.training.run_folder",
    "minitrain.checkpoint", "minitrain.models",
    "minitrain.sklearn", "minitrain.datasets", "minitrain.experiments", "minitrain.cli", "minitrain.__init__",
    "minitrain.__main__",
]  # fmt: skip
PACKAGES = {"nbnorm", "minitrain"}  # their own __init__ is a room of its own
OPTIONAL = {
    "rich",
    "PIL",
    "tensorboardX",
    "mlflow",
    "matplotlib",
    "sklearn",
    "safetensors",
    "pooch",
    "mpi4py",
    "onnx",
    "torch",
    "jax",
}

MOST_FILES = 15  # of a folder, unless it is a shelf of like things
SHELVES = {"minitrain/layers", "minitrain/layers/fused"}
MOST_ARGUMENTS = 12  # of a compiled function; above USUAL_ARGUMENTS a comment in front of it says why
USUAL_ARGUMENTS = 10
# What numba.extending's users need; all else below `numba.` is private.
EXTENSION_API = ("numba.extending", "numba.core.types", "numba.core.cgutils", "numba.core.types.", "numba.core import")
PUBLIC_OF_NUMBA = {"njit", "prange", "config", "get_num_threads", "set_num_threads", "threading_layer", "__version__",
                   "types", "literally"}  # fmt: skip


@pytest.fixture(scope="module")
def house():
    return plan.House(ROOT)


def room(module):
    """Position of a module's room in the list; None where it has none."""
    if module in PACKAGES:
        module += ".__init__"
    best = max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len, default=None)
    return None if best is None else ROOMS.index(best)


def wrong_ways(house):
    """Everything that is wrong with rooms and directions, in words."""
    for module in house.paths:
        own = room(module)
        if own is None:
            yield f"{module} has no room"
            continue
        for other in sorted(house.needs(module)):
            theirs = room(other)
            if theirs is not None and theirs > own:
                yield f"{module} imports {other}, which is above it"


def test_every_module_has_a_room_and_imports_go_down(house):
    assert list(wrong_ways(house)) == []


def test_there_are_no_circles(house):
    assert house.circles() == []


@pytest.fixture
def copy(tmp_path):
    for package in plan.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_an_upward_import_for_types_is_seen(copy):
    path = copy / "minitrain" / "layer.py"
    path.write_text(path.read_text() + "\nif TYPE_CHECKING:\n    from minitrain.training.trainer import Trainer\n")
    changed = plan.House(copy)
    assert "minitrain.layer imports minitrain.training.trainer, which is above it" in list(wrong_ways(changed))
    assert any("minitrain.layer" in circle for circle in changed.circles())


@pytest.mark.parametrize("new", ["minitrain/helpers.py", "nbnorm/extra/thing.py"])
def test_a_file_without_a_room_is_seen(copy, new):
    (copy / new).parent.mkdir(exist_ok=True)
    (copy / new).write_text('"""New."""\n')
    module = new.removesuffix(".py").replace("/", ".")
    assert list(wrong_ways(plan.House(copy))) == [f"{module} has no room"]


def test_each_module_can_be_imported_alone(house, tmp_path):
    """Each in a process of its own, where the packages around it are there but have imported nothing yet.

    For the sake of time these processes share what other packages have, and the rooms below, which import nothing
    from above and whose modules have been imported alone by then.
    """
    program = """
        import importlib, os, sys, types
        import numba, numpy, scipy.linalg
        for package in ("matplotlib.pyplot", "rich.progress", "sklearn.base", "safetensors.numpy"):
            try:
                importlib.import_module(package)
            except ImportError:
                pass

        def load(module):
            if not hasattr(sys.modules.get(module), "__file__"):  # a package that has imported nothing so far
                sys.modules.pop(module, None)
            package = module
            while "." in package:
                package = package.rpartition(".")[0]
                if package not in sys.modules:
                    sys.modules[package] = types.ModuleType(package)
                    sys.modules[package].__path__ = [package.replace(".", "/")]
            importlib.import_module(module)

        failed, done = [], []
        for module in sys.argv[1:]:
            if module == "next room":
                for each in done:
                    load(each)
                done = []
                continue
            done.append(module)
            child = os.fork()
            if not child:
                code = 1
                try:
                    load(module)
                    code = 0
                except BaseException as error:
                    print(f"{module}: {error!r}", flush=True)
                finally:
                    os._exit(code)
            if os.waitpid(child, 0)[1]:
                failed.append(module)
        print("failed:", *failed)
    """
    modules = sorted(house.paths.keys() - {"minitrain.__main__"}, key=lambda module: (room(module), module))
    in_rooms = [(*names, "next room") for _, names in itertools.groupby(modules, room)]
    bytecode = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}  # sources are parsed once
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *itertools.chain(*in_rooms)],
        capture_output=True, text=True, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), **bytecode},
    )  # fmt: skip
    assert result.stdout.strip() == "failed:", result.stdout


def private_imports(house):
    """What modules outside `nbnorm.jit.internals` take from Numba that Numba does not promise."""
    for module in house.paths:
        if module.startswith("nbnorm.jit.internals"):
            continue
        for name in house.imports(module):
            if not name.startswith("numba"):
                continue
            extending = module.startswith("nbnorm.simd") and (
                name.startswith(EXTENSION_API) or name in ("numba.core.cgutils", "numba.core.types")
            )
            public = name == "numba" or (name.count(".") == 1 and name.partition(".")[2] in PUBLIC_OF_NUMBA)
            if not public and not extending:
                yield f"{module} imports {name}"


def test_only_internals_touch_private_names_of_numba(house):
    assert list(private_imports(house)) == []


def test_a_private_import_is_seen(copy):
    path = copy / "nbnorm" / "warmup.py"
    path.write_text(path.read_text() + "\nfrom numba.core import typing\n")
    assert list(private_imports(plan.House(copy))) == ["nbnorm.warmup imports numba.core.typing"]


def test_only_simd_and_internals_see_llvmlite(house):
    for module in house.paths:
        found = [name for name in house.imports(module) if name.startswith("llvmlite")]
        assert not found or module.startswith(("nbnorm.simd", "nbnorm.jit.internals")), f"{module} imports {found}"


def test_layers_do_not_import_each_other(house):
    for module in house.paths:
        if module.startswith("minitrain.layers."):
            for name in house.imports(module):
                shared = name.startswith("minitrain.layers._")  # what several layers are built on
                shared |= module.startswith("minitrain.layers.fused")  # stand for layers that they name
                assert shared or not name.startswith("minitrain.layers"), f"{module} imports {name}"


def test_optimizers_see_only_arrays(house):
    modules = [module for module in house.paths if f"{module}.".startswith("minitrain.optimizers.")]
    assert len(modules) > 5
    seen = set().union(*map(house.needs, modules))
    assert not {name for name in seen if name.startswith(("minitrain.model", "minitrain.layer", "minitrain.graph"))}


def test_optional_packages_are_imported_inside_functions(house):
    for module in house.paths:
        for name in house.imports(module, whole_file=False):
            # The room of estimators is there for nothing else.
            own = module.startswith("minitrain.sklearn") and name.startswith("sklearn.")
            assert own or name.split(".")[0] not in OPTIONAL, f"{module} imports {name} at its top"


@pytest.mark.parametrize("package", ["nbnorm", "minitrain", "minitrain.cli"])
def test_importing_loads_nothing_optional(package):
    check = f"import sys, {package}; print(*[name for name in {sorted(OPTIONAL)!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []


def test_folders_stay_small(house):
    too_large = {
        folder: count for folder, count in house.folders().items() if count > MOST_FILES and folder not in SHELVES
    }
    assert too_large == {}


def test_compiled_functions_have_few_arguments(house):
    functions = [each for each in house.functions() if each.compiled]
    assert len(functions) > 100  # the rule sees them
    assert [each for each in functions if each.arguments > MOST_ARGUMENTS] == []
    for each in functions:
        if each.arguments > USUAL_ARGUMENTS:
            assert has_reason(each), f"{each.path}: {each.name} has {each.arguments} arguments and no reason for it"


def has_reason(function):
    """Whether a comment within the three lines above a function (its decorators aside) speaks of its arguments."""
    lines = (ROOT / function.path).read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines) if text.lstrip().startswith(f"def {function.name}(")]
    return any("argument" in text for text in lines[max(0, line - 4) : line] if text.lstrip().startswith("#"))


def test_the_description_says_what_there_is():
    text = plan.describe(ROOT)
    assert "circles, type-only imports included: 0" in text
    assert "minitrain/layers" in text
