"""Winograd's convolution against a float64 twin of the direct one and against PyTorch, at every width of vectors."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import reference_conv2d as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product, algorithm
from minitrain.kernels.conv2d.winograd.cut import cut_winograd, pays
from minitrain.kernels.conv2d.winograd.forward import cut_of, run_winograd
from minitrain.kernels.conv2d.winograd.weights import transform_weights
from nbnorm.kernels.batch_norm.moments import combine_moments
from nbnorm.simd.vectors import LANES_FLOAT32

GUARD = 64  # values around an output that nobody may write
CANARY = np.float32(-12345.678)


def geometry(images, channels, outs, height, width, padding=(1, 1)):
    return Geometry((images, channels, height, width), outs, (3, 3), padding=padding)


GEOMETRIES = [
    geometry(3, 16, 16, 8, 8),
    geometry(2, 16, 24, 33, 40),
    geometry(2, 20, 50, 9, 7, (0, 2)),
    geometry(5, 32, 32, 14, 14),
    geometry(1, 16, 17, 57, 100, (1, 0)),  # strips of rows
    geometry(2, 48, 33, 4, 4),
    geometry(1, 64, 64, 64, 20, (2, 2)),
]


def arrays(g, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (g.input_shape, g.weight_shape, (g.out_channels,), g.output_shape)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def guarded(shape):
    """An array of NaN between canaries, and all of its memory."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, CANARY)
    array = memory[GUARD : GUARD + size].reshape(shape)
    array[:] = np.nan
    return array, memory


def run(g, gradient, source, weight, bias, residual=None, relu=False, run_kernel=run_winograd.serial):
    """One convolution into a buffer that holds NaN, with scratch of random bits; nothing around them is written."""
    cut = cut_winograd(g, gradient)
    target, memory = guarded(g.input_shape if gradient else g.output_shape)
    scratch, scratch_memory = guarded((cut.scratch,))
    packed, packed_memory = guarded((cut.packed,))
    bits = np.random.default_rng(1).integers(0, 2**32, cut.scratch, np.uint32)
    scratch[:] = bits.view(np.float32)
    none = target[:0]
    transform_weights.serial(cut.weights, weight, np.empty(0), bias, packed)
    sums = np.full(cut.sums_shape, np.nan)
    residual = none if residual is None else residual
    run_kernel(cut.row, source, none, packed, residual, none, relu, scratch, target, sums)
    for outer in (memory, scratch_memory, packed_memory):
        assert (outer[:GUARD] == CANARY).all()
        assert (outer[-GUARD:] == CANARY).all()
    if residual is None:
        assert_moments(sums, target)
    return target


def assert_moments(sums, target):
    """What was found on the way are the mean and variance of each channel, to float32's precision."""
    moments = np.full((2, target.shape[1]), np.nan)
    combine_moments.serial(sums, target.reshape(*target.shape[:2], -1), moments)
    values = np.moveaxis(target, 1, 0).reshape(target.shape[1], -1).astype(np.float64)
    mean, var = values.mean(axis=1), values.var(axis=1)
    np.testing.assert_allclose(moments[1], var, rtol=1e-6)
    np.testing.assert_array_less(abs(moments[0] - mean)[var > 0], 1e-6 * np.sqrt(var)[var > 0])


def run_both(g, seed=0, run_kernel=run_winograd.serial):
    x, weight, bias, dy = arrays(g, seed)
    forward = run(g, False, x, weight, bias, run_kernel=run_kernel)
    return forward, run(g, True, dy, weight, bias[:0], run_kernel=run_kernel)


def assert_close(g, actual, seed=0):
    """The worst error is a few units in the last place of the largest result, growing with the number of products."""
    x, weight, bias, dy = arrays(g, seed)
    wanted = reference.forward(g, x, weight, bias), reference.input_gradient(g, dy, weight)
    for name, a, b in zip(("y", "dx"), actual, wanted, strict=True):
        error = np.abs(a - b).max() / np.abs(b).max()
        assert error < 1e-5, f"{name}: {error}"


@pytest.mark.parametrize("g", GEOMETRIES, ids=str)
def test_agrees_with_the_float64_twin(g):
    assert_close(g, run_both(g))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    def integer(low, high):
        return data.draw(st.integers(low, high))

    padding = integer(0, 2), integer(0, 2)
    height, width = (max(4, 7 - 2 * p) + integer(0, 40) for p in padding)
    g = geometry(integer(1, 20), integer(1, 70), integer(1, 70), height, width, padding)
    assert_close(g, run_both(g))


@pytest.mark.parametrize("g", GEOMETRIES[:4], ids=str)
def test_agrees_with_pytorch(g):
    torch = pytest.importorskip("torch")
    x, weight, bias, dy = arrays(g)
    leaves = [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, weight, bias)]
    y = torch.nn.functional.conv2d(*leaves, padding=g.padding)
    dx = torch.autograd.grad(y, leaves[0], torch.from_numpy(dy.astype(np.float64)))[0]
    for actual, wanted in zip(run_both(g), (y, dx), strict=True):
        b = wanted.detach().numpy()
        np.testing.assert_allclose(actual, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_error_is_near_that_of_direct_convolution():
    """Random normal data: about 3e-6 of the largest result; the points 0, 1, -1, 2, -2 would give more than 1e-5."""
    g = geometry(2, 256, 32, 16, 16)
    x, weight, bias, _ = arrays(g)
    wanted = reference.forward(g, x, weight, bias)
    error = np.abs(run(g, False, x, weight, bias) - wanted)
    assert error.max() < 5e-6 * np.abs(wanted).max()
    assert error.std() < 2e-6 * wanted.std()


@pytest.mark.parametrize("relu", [False, True])
def test_adds_a_residual_and_applies_relu(relu):
    g = GEOMETRIES[2]
    x, weight, bias, residual = arrays(g)
    wanted = reference.forward(g, x, weight, bias)
    for extra in (None, residual):
        total = wanted if extra is None else wanted + extra
        total = np.maximum(total, 0) if relu else total
        y = run(g, False, x, weight, bias, extra, relu)
        np.testing.assert_allclose(y, total, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_without_a_bias():
    x, weight, bias, _ = arrays(GEOMETRIES[0])
    zero = run(GEOMETRIES[0], False, x, weight, 0 * bias)
    np.testing.assert_array_equal(run(GEOMETRIES[0], False, x, weight, bias[:0]), zero)


@pytest.mark.parametrize("g", [GEOMETRIES[3], GEOMETRIES[4]], ids=str)
def test_same_bits_for_any_number_of_threads(g, monkeypatch):
    serial = run_both(g)
    before = numba.get_num_threads()
    for workers in (1, 3, before):  # scratch is divided among workers, one for each thread of the process
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", workers)
        for threads in {1, before}:
            numba.set_num_threads(threads)
            try:
                for a, b in zip(run_both(g, run_kernel=run_winograd), serial, strict=True):
                    np.testing.assert_array_equal(a, b)
            finally:
                numba.set_num_threads(before)


def test_a_nan_spreads_no_further_than_its_tiles_and_images():
    g = geometry(3, 16, 16, 16, 16)
    x, weight, bias, _ = arrays(g)
    clean = run(g, False, x, weight, bias)
    x[1, 3, 5, 6] = np.nan
    y = run(g, False, x, weight, bias)
    wrong = np.isnan(y)
    assert wrong[1, :, 4:7, 5:8].all()
    outside = np.ones(y.shape, bool)
    outside[1, :, 4:8, 4:8] = False
    assert not wrong[outside].any()
    np.testing.assert_array_equal(y[outside], clean[outside])


def test_the_convolution_uses_it_in_float32_only(monkeypatch):
    monkeypatch.setattr(algorithm, "FLOPS_PER_ELEMENT", 10**12)
    g = geometry(6, 32, 32, 14, 14)
    assert pays(g)
    x, weight, bias, dy = arrays(g)
    for dtype in (np.float32, np.float64):
        y, dx = np.empty(g.output_shape, dtype), np.empty(g.input_shape, dtype)
        conv2d.forward(g, x.astype(dtype), weight.astype(dtype), bias.astype(dtype),
                       np.empty(conv2d.scratch_size(g, Product.FORWARD), dtype), y)()  # fmt: skip
        scratch = np.empty(conv2d.scratch_size(g, Product.INPUT_GRADIENT), dtype)
        conv2d.input_gradient(g, dy.astype(dtype), weight.astype(dtype), scratch, dx)()
        if dtype == np.float32:
            for a, b in zip((y, dx), run_both(g), strict=True):
                np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(y, reference.forward(g, x, weight, bias), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(dx, reference.input_gradient(g, dy, weight), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        Geometry((8, 64, 14, 14), 64, (3, 3), stride=(2, 2), padding=(1, 1)),
        Geometry((8, 64, 14, 14), 64, (3, 3), dilation=(2, 2), padding=(1, 1)),
        Geometry((8, 64, 14, 14), 64, (3, 3), padding=(1, 1), groups=2),
        Geometry((8, 64, 14, 14), 64, (5, 5), padding=(2, 2)),
        Geometry((8, 64, 14, 14), 64, (3, 3), padding=(3, 1)),
        Geometry((8, 64, 3, 3), 64, (3, 3)),
        Geometry((8, 1, 28, 28), 64, (3, 3), padding=(1, 1)),
    ],
    ids=str,
)
def test_other_convolutions_are_direct(other):
    assert not pays(other)


def test_few_images_are_cut_into_tasks():
    strips = cut_of.py_func(cut_winograd(geometry(1, 32, 32, 32, 32), False).row).strips
    assert strips.images == 1
    assert strips.tile_rows <= 2
    strips = cut_of.py_func(cut_winograd(geometry(128, 64, 64, 8, 8), False).row).strips
    assert strips.images == 8
    assert strips.tile_rows == 2


WIDTHS = """
import test_winograd_forward as t
assert t.LANES_FLOAT32 == {lanes}
for g in t.GEOMETRIES:
    t.assert_close(g, t.run_both(g))
t.test_any_shape()
"""


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_agrees_at_every_width_of_vectors(lanes):
    if lanes == LANES_FLOAT32:
        pytest.skip("the other tests do that")
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": str(4 * lanes), "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS.format(lanes=lanes)], env=environment, check=True, timeout=600)
