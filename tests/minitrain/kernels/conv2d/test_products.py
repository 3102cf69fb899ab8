"""The convolution kernels against a float64 twin and against PyTorch, on every kind of shape."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import reference_conv2d as reference
from conv2d_geometries import (
    DEPTHWISE,
    GEOMETRIES,
    depthwise_geometries,
    geometries,
    serial_kernels,  # noqa: F401
)
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_widths import NARROWER

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product, algorithm
from minitrain.kernels.conv2d.depthwise.weight_cut import cut_depthwise_weight


def arrays(geometry, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (geometry.input_shape, geometry.weight_shape, (geometry.out_channels,), geometry.output_shape)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(geometry, dtype, bias=True, seed=0):
    """All three kernels, into buffers that hold NaN: (y, dx, dweight, dbias)."""
    x, weight, b, dy = arrays(geometry, dtype, seed)
    y, dx, dweight, dbias = (np.full_like(a, np.nan) for a in (dy, x, weight, b if bias else b[:0]))
    conv2d.forward(geometry, x, weight, b if bias else None, scratch(geometry, Product.FORWARD, dtype), y)()
    conv2d.input_gradient(geometry, dy, weight, scratch(geometry, Product.INPUT_GRADIENT, dtype), dx)()
    space = scratch(geometry, Product.WEIGHT_GRADIENT, dtype)
    conv2d.weight_gradient(geometry, dy, x, space, dweight, dbias if bias else None)()
    return y, dx, dweight, dbias


def scratch(geometry, product, dtype="float32"):
    return np.full(conv2d.scratch_size(geometry, product), np.nan, dtype)


def expected(geometry, dtype, bias=True, seed=0):
    x, weight, b, dy = arrays(geometry, dtype, seed)
    dweight, dbias = reference.weight_gradient(geometry, dy, x)
    y = reference.forward(geometry, x, weight, b if bias else b[:0])
    return y, reference.input_gradient(geometry, dy, weight), dweight, dbias if bias else dbias[:0]


def assert_same(actual, wanted):
    for a, b in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(actual, wanted, dtype):
    tolerance = 1e-10 if dtype == "float64" else 2e-5
    for name, a, b in zip(("y", "dx", "dweight", "dbias"), actual, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=name
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES + DEPTHWISE, ids=str)
def test_agrees_with_the_float64_twin(geometry, dtype):
    assert_close(run(geometry, dtype), expected(geometry, dtype), dtype)


def test_without_a_bias():
    assert_close(run(GEOMETRIES[0], "float32", bias=False), expected(GEOMETRIES[0], "float32", bias=False), "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_no_tap_reaches_the_input(dtype):
    g = Geometry((1, 2, 1, 1), 1, (1, 1), stride=(2, 1), padding=(1, 0))
    assert_close(run(g, dtype), expected(g, dtype), dtype)
    assert (run(g, dtype)[1] == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((1, 1), (2, 1), (2, 1), (2, 0), (3, 1)),
        ((1, 1), (1, 2), (1, 3), (0, 3), (1, 5)),
        ((2, 3), (2, 1), (4, 1), (4, 0), (4, 1)),
    ],
)
def test_where_a_tap_reaches_beyond_a_plane_that_is_read_in_place(size, kernel, stride, padding, dilation, dtype):
    g = Geometry((3, 2, *size), 2, kernel, stride, padding, dilation)
    assert_close(run(g, dtype), expected(g, dtype), dtype)


@settings(max_examples=60, deadline=None)
@given(geometries(), st.sampled_from(["float32", "float64"]))
def test_any_shape(geometry, dtype):
    assert_close(run(geometry, dtype), expected(geometry, dtype), dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES + DEPTHWISE, ids=str)
def test_agrees_with_pytorch_in_float64(geometry):
    torch = pytest.importorskip("torch")
    x, weight, bias, dy = (torch.from_numpy(a) for a in arrays(geometry, "float64"))
    leaves = [a.requires_grad_() for a in (x, weight, bias)]
    options = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    y = torch.nn.functional.conv2d(x, weight, bias, *options)
    gradients = torch.autograd.grad(y, leaves, dy)
    assert_close(run(geometry, "float64"), [a.detach().numpy() for a in (y, *gradients)], "float64")


@settings(max_examples=60, deadline=None)
@given(depthwise_geometries(), st.sampled_from(["float32", "float64"]))
def test_any_depthwise_shape(geometry, dtype):
    for product in Product:
        assert conv2d.choose(geometry, product, np.dtype(dtype)).name == "depthwise"
    assert_close(run(geometry, dtype), expected(geometry, dtype), dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES[2:4] + DEPTHWISE[:2], ids=str)
def test_same_bits_in_serial_and_in_parallel_for_any_number_of_threads(geometry, monkeypatch):
    serial = run(geometry, "float32")
    monkeypatch.setattr(algorithm, "FLOPS_PER_ELEMENT", 1)
    before = numba.get_num_threads()
    for threads in {1, 2, before}:
        numba.set_num_threads(min(threads, before))
        try:
            assert_same(run(geometry, "float32"), serial)
        finally:
            numba.set_num_threads(before)


def test_chunks_of_images_share_a_depthwise_weight_gradient():
    geometry = Geometry((9, 3, 10, 30), 3, (3, 3), padding=(1, 1), groups=3)
    assert cut_depthwise_weight(geometry).chunks > 1
    assert_close(run(geometry, "float32"), expected(geometry, "float32"), "float32")


def test_a_nan_stays_in_its_channel_of_a_depthwise_convolution():
    geometry = DEPTHWISE[0]
    x, weight, b, dy = arrays(geometry, "float32")
    x[1, 7, 27, 27] = dy[0, 7, 0, 0] = np.nan
    y, dx, dweight = np.empty_like(dy), np.empty_like(x), np.empty_like(weight)
    conv2d.forward(geometry, x, weight, b, scratch(geometry, Product.FORWARD), y)()
    conv2d.input_gradient(geometry, dy, weight, scratch(geometry, Product.INPUT_GRADIENT), dx)()
    conv2d.weight_gradient(geometry, dy, x, scratch(geometry, Product.WEIGHT_GRADIENT), dweight, None)()
    wrong = np.zeros(y.shape, bool)
    wrong[1, 7, 26:, 26:] = True
    np.testing.assert_array_equal(np.isnan(y), wrong)
    wrong = np.zeros(x.shape, bool)
    wrong[0, 7, :2, :2] = True
    np.testing.assert_array_equal(np.isnan(dx), wrong)
    assert np.isfinite(np.delete(dweight, 7, axis=0)).all()


@pytest.mark.parametrize("geometry", [GEOMETRIES[5], GEOMETRIES[0]], ids=str)
def test_a_nan_stays_in_its_channel_of_the_weight_gradient(geometry):
    x, _, _, dy = arrays(geometry, "float32")
    x[:, 1] = np.nan
    dweight = np.empty(geometry.weight_shape, "float32")
    conv2d.weight_gradient(geometry, dy, x, scratch(geometry, Product.WEIGHT_GRADIENT), dweight, None)()
    wrong = np.isnan(dweight).any(axis=(0, 2, 3))
    assert wrong[1]
    assert wrong.sum() == 1


WIDTHS = """
import test_products as t
for geometry in (t.GEOMETRIES[1], t.GEOMETRIES[3], t.GEOMETRIES[5], t.DEPTHWISE[1], t.DEPTHWISE[2]):
    t.assert_close(t.run(geometry, "float32"), t.expected(geometry, "float32"), "float32")
"""


@pytest.mark.parametrize("vector_bytes", NARROWER)
def test_agrees_with_narrower_vectors(vector_bytes):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)
