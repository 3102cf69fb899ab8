"""Threads, processes and SIMD widths: each needs a process of its own. They share what they compute."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from vector_widths import OTHER

HERE = Path(__file__).parent


def start(*tasks, **variables):
    paths = (ROOT, HERE.parent, os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **variables}
    return subprocess.Popen(
        [sys.executable, HERE / "norm_process.py", *tasks],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def lines(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def loads(layer):
    """Whether Numba has this threading layer here."""
    try:
        importlib.import_module("numba.np.ufunc." + (layer if layer == "workqueue" else f"{layer}pool"))
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def layers():
    """Output of the checks of threads under each threading layer."""
    results = {}
    for layer in ("omp", "workqueue", "tbb"):
        if loads(layer):
            tasks = ["bits", "hammer=3"] + (["children"] if layer != "tbb" else [])
            variables = {"NUMBA_NUM_THREADS": "4", "NUMBA_THREADING_LAYER": layer, "OMP_WAIT_POLICY": "passive"}
            results[layer] = lines(start(*tasks, **variables))
    return results


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_threads(layers, layer):
    """Bits for 1, 2, 3 and 4 threads, eight Python threads at once, forked and other children."""
    if layer not in layers:
        pytest.skip(f"Numba's {layer} does not load here")
    code, output = layers[layer]
    assert code == 0, output
    assert output.startswith(layer), output
    assert "hammered" in output


def test_bits_do_not_depend_on_the_threading_layer(layers):
    digests = {output.split()[1] for _, output in layers.values()}
    assert len(digests) == 1


def test_one_thread():
    code, output = lines(start("bits", NUMBA_NUM_THREADS="1"))
    assert code == 0, output


def test_simd_widths():
    processes = {width: start("accuracy", NBNORM_VECTOR_BYTES=width, NUMBA_NUM_THREADS="1") for width in OTHER}
    for width, process in processes.items():
        code, output = lines(process)
        assert code == 0, output
        assert output.split() == [width, str(int(width) // 4), str(int(width) // 8)], output


def test_an_unknown_width_is_an_error():
    code, output = lines(start("accuracy", NBNORM_VECTOR_BYTES="48"))
    assert code != 0
    assert "NBNORM_VECTOR_BYTES: expected one of (16, 32, 64), got '48'" in output
