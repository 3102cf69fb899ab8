"""Every benchmark of the asv suite runs once with every value of its parameters, as with `asv run --quick`."""

import sys
from pathlib import Path

import numba
import pytest

from minitrain.layer import Spec
from minitrain.layers import LAYERS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are not installed

from benchmarks import (  # noqa: E402
    benchmark_batch_norm,
    benchmark_data,
    benchmark_layers,
    benchmark_nets,
    benchmark_startup,
)

discovery = pytest.importorskip("asv_runner.discovery")
threadpoolctl = pytest.importorskip("threadpoolctl")


def cases():
    """The first value of every parameter, then each other value with the first ones of the others."""
    for benchmark in discovery.disc_benchmarks(str(ROOT / "benchmarks")):
        first = tuple(values[0] for values in benchmark._params)
        yield pytest.param(benchmark, first, id=f"{benchmark.name} {first}")
        for axis, values in enumerate(benchmark._params):
            for value in values[1:]:
                params = (*first[:axis], value, *first[axis + 1 :])
                yield pytest.param(benchmark, params, id=f"{benchmark.name} {params}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small files, few steps, processes that find their kernels in the cache; threads afterwards as before."""
    programs = {}

    def seconds(program, cache=None):
        if program not in programs:
            programs[program] = run(program)
        return programs[program]

    run = benchmark_startup.seconds
    monkeypatch.setattr(benchmark_startup, "seconds", seconds)
    monkeypatch.setattr(benchmark_startup.Import, "runs", 1)
    monkeypatch.setattr(benchmark_data, "IMAGES", 50)
    monkeypatch.setattr(benchmark_batch_norm.Bandwidth, "seconds", 0)
    monkeypatch.setattr(benchmark_nets.Accuracy, "epochs", 1)
    threads = numba.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        yield
    numba.set_num_threads(threads)


@pytest.mark.parametrize(("benchmark_", "params"), list(cases()))
def test_benchmark_runs(benchmark_, params):
    benchmark_._current_params = params
    benchmark_.do_setup()
    result = benchmark_.func(*params)
    benchmark_.do_setup()  # asv-runner from 0.3 on does, before every call
    benchmark_.do_teardown()
    if benchmark_.type == "track":
        assert result == result


def test_every_layer_is_measured():
    assert benchmark_layers.LAYERS.keys() | benchmark_layers.NOT_HERE.keys() == LAYERS.keys()
    for name, (make, *shapes) in benchmark_layers.LAYERS.items():
        make().declare(*map(Spec, shapes))  # where the first example's arguments do not fit: add others to LARGER
        assert type(make()).__name__ == name


def test_every_net_is_measured():
    assert benchmark_nets.NETS.keys() == benchmark_nets.models.SMALL_MODELS.keys()


def test_modules_import_without_peers():
    """asv imports every module of the folder, in environments that have none of the peers."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'jax', 'onnx', 'onnxruntime']));"
    program = f"{blocked} import importlib; [importlib.import_module('benchmarks.' + name) for name in {names}]"
    benchmark_startup.seconds(program)
