"""The kernel of depthwise convolutions, given its row, against a float64 twin; nothing is written beside its arrays."""

import numba
import numpy as np
import pytest
import reference_conv2d as reference
from conv2d_geometries import DEPTHWISE

from minitrain.kernels.conv2d.depthwise.cut import cut_depthwise, is_depthwise
from minitrain.kernels.conv2d.depthwise.forward import correlate_planes, cut_of
from minitrain.kernels.conv2d.direct.weights import pack_weights

GUARD = 64  # values around an array that nobody may write
CANARY = -12345.678


def guarded(shape, dtype):
    """An array of NaN between canaries, and all of its memory."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, CANARY, dtype)
    array = memory[GUARD : GUARD + size].reshape(shape)
    array[:] = np.nan
    return array, memory


def arrays(g, dtype):
    rng = np.random.default_rng(0)
    shapes = g.input_shape, g.weight_shape, (g.out_channels,), g.output_shape
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(g, gradient, source, weight, bias, residual=None, relu=False, run_kernel=correlate_planes.serial):
    cut = cut_depthwise(g, gradient)
    target, memory = guarded(g.input_shape if gradient else g.output_shape, source.dtype)
    scratch, scratch_memory = guarded((cut.scratch,), source.dtype)
    packed, packed_memory = guarded((cut.packed,), source.dtype)
    none = target[:0]
    pack_weights.serial(cut.weights, weight, np.empty(0), bias, packed)
    residual = none if residual is None else residual
    run_kernel(cut.row, source, packed, residual, none, relu, scratch, target)
    for outer in (memory, scratch_memory, packed_memory):
        assert (outer[:GUARD] == outer.dtype.type(CANARY)).all()
        assert (outer[-GUARD:] == outer.dtype.type(CANARY)).all()
    return target


def assert_close(actual, wanted, dtype):
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("g", DEPTHWISE, ids=str)
def test_agrees_with_the_float64_twin(g, dtype):
    assert is_depthwise(g)
    x, weight, bias, dy = arrays(g, dtype)
    assert_close(run(g, False, x, weight, bias), reference.forward(g, x, weight, bias), dtype)
    assert_close(run(g, True, dy, weight, bias[:0]), reference.input_gradient(g, dy, weight), dtype)


def test_adds_a_residual_and_applies_relu():
    g = DEPTHWISE[1]
    x, weight, bias, residual = arrays(g, "float32")
    wanted = np.maximum(reference.forward(g, x, weight, bias) + residual, 0)
    assert_close(run(g, False, x, weight, bias, residual, True), wanted, "float32")


@pytest.mark.parametrize("g", DEPTHWISE[:2], ids=str)
def test_same_bits_for_any_number_of_workers(g, monkeypatch):
    x, weight, bias, _ = arrays(g, "float32")
    serial = run(g, False, x, weight, bias)
    for workers in (1, 3, 64):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", workers)
        cut = cut_of.py_func(cut_depthwise(g).row)
        assert cut.workers == min(workers, g.input_shape[0] * g.input_shape[1])
        for run_kernel in (correlate_planes, correlate_planes.serial):
            np.testing.assert_array_equal(run(g, False, x, weight, bias, run_kernel=run_kernel), serial)


def test_the_row_says_what_the_shapes_are():
    g = DEPTHWISE[2]
    forward, gradient = (cut_of.py_func(cut_depthwise(g, gradient).row) for gradient in (False, True))
    assert (forward.all_planes, forward.channels, forward.taps) == (6, 3, 8)
    assert forward.planes == (*g.input_shape[2:], *g.output_shape[2:])
    assert gradient.planes == (*g.output_shape[2:], *g.input_shape[2:])
