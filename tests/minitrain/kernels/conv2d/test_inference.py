"""Convolution by prepared weights with all that follows it, against the float64 twin and against PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import reference_conv2d as reference
from conv2d_geometries import DEPTHWISE, GEOMETRIES, geometries, serial_kernels  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_widths import NARROWER

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product, algorithm
from minitrain.kernels.conv2d.direct.cut import cut_forward
from minitrain.kernels.conv2d.direct.records import cut_of

FEW_IMAGES = [
    Geometry((1, 16, 8, 8), 32, (3, 3), padding=(1, 1)),  # one band, its outputs divided
    Geometry((1, 5, 8, 8), 35, (3, 3), padding=(1, 1)),  # the last tile of outputs reaches back
    Geometry((1, 3, 32, 32), 16, (3, 3), padding=(1, 1)),  # bands and outputs divided
    Geometry((1, 8, 14, 14), 64, (3, 3), stride=(2, 2), padding=(1, 1)),
    Geometry((2, 4, 9, 9), 40, (3, 3), groups=2),
    Geometry((1, 6, 7, 7), 24, (1, 1)),  # read in place
    Geometry((1, 2, 1, 1), 9, (1, 1)),
]
EPILOGUES = [(residual, relu, affine) for residual in (0, 1) for relu in (0, 1) for affine in (0, 1)]


def arrays(geometry, dtype, seed=0):
    """x, weight, scale, bias, residual, affine"""
    rng = np.random.default_rng(seed)
    channels = geometry.out_channels
    shapes = (geometry.input_shape, geometry.weight_shape, (channels,), (channels,), geometry.output_shape)
    x, weight, scale, bias, residual = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, weight, scale.astype(np.float64), bias, residual, rng.standard_normal((2, channels)).astype(dtype)


def run(geometry, dtype, epilogue=(1, 1, 1), scaled=True, seed=0):
    x, weight, scale, bias, residual, affine = arrays(geometry, dtype, seed)
    packed = np.full(conv2d.packed_size(geometry), np.nan, dtype)
    conv2d.prepare_weight(geometry, weight, bias, packed, *([scale] if scaled else []))()
    assert np.isfinite(packed).all()
    y = np.full(geometry.output_shape, np.nan, dtype)
    conv2d.convolution(
        geometry, x, packed, residual if epilogue[0] else None, affine if epilogue[2] else None, bool(epilogue[1]),
        np.full(conv2d.scratch_size(geometry, Product.FORWARD), np.nan, dtype), y,
    )()  # fmt: skip
    return y


def expected(geometry, dtype, epilogue=(1, 1, 1), scaled=True, seed=0):
    x, weight, scale, bias, residual, affine = (a.astype(np.float64) for a in arrays(geometry, dtype, seed))
    y = reference.forward(geometry, x, weight * scale[:, None, None, None] if scaled else weight, bias)
    y = y + residual if epilogue[0] else y
    y = np.maximum(y, 0) if epilogue[1] else y
    return y * affine[0][:, None, None] + affine[1][:, None, None] if epilogue[2] else y


def assert_close(actual, wanted):
    tolerance = 1e-10 if actual.dtype == np.float64 else 2e-5
    np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES + FEW_IMAGES + DEPTHWISE[:3], ids=str)
def test_agrees_with_the_float64_twin(geometry, dtype):
    assert_close(run(geometry, dtype), expected(geometry, dtype))


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
def test_every_combination_of_what_follows(epilogue):
    for geometry in (FEW_IMAGES[1], DEPTHWISE[1]):
        for scaled in (True, False):
            assert_close(run(geometry, "float32", epilogue, scaled), expected(geometry, "float32", epilogue, scaled))


@settings(max_examples=40, deadline=None)
@given(geometries(), st.sampled_from(["float32", "float64"]), st.sampled_from(EPILOGUES))
def test_any_shape(geometry, dtype, epilogue):
    assert_close(run(geometry, dtype, epilogue), expected(geometry, dtype, epilogue))


@pytest.mark.parametrize("geometry", FEW_IMAGES, ids=str)
def test_agrees_with_pytorch(geometry):
    torch = pytest.importorskip("torch")
    x, weight, _, bias, residual, affine = (torch.from_numpy(a) for a in arrays(geometry, "float64"))
    options = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    y = torch.relu(torch.nn.functional.conv2d(x, weight, bias, *options) + residual)
    y = y * affine[0][:, None, None] + affine[1][:, None, None]
    assert_close(run(geometry, "float64", scaled=False), y.numpy())


@pytest.mark.parametrize("geometry", GEOMETRIES[:6] + FEW_IMAGES + DEPTHWISE[:1], ids=str)
def test_weights_are_packed_alike_for_any_number_of_images(geometry):
    _, weight, scale, bias, _, _ = arrays(geometry, "float32")
    packed = []
    for images in (1, 2, 64):
        other = Geometry(
            (images, *geometry.input_shape[1:]), geometry.out_channels, geometry.kernel, geometry.stride,
            geometry.padding, geometry.dilation, geometry.groups,
        )  # fmt: skip
        packed.append(np.full(conv2d.packed_size(other), np.nan, np.float32))
        conv2d.prepare_weight(other, weight, bias, packed[-1], scale)()
    for each in packed[1:]:
        np.testing.assert_array_equal(each, packed[0])


def test_few_images_make_several_tasks():
    for geometry in FEW_IMAGES[:5]:
        cut = cut_of.py_func(cut_forward(geometry, 4).row)
        blocks = -(-cut.problem.images // cut.bands.images) * cut.problem.groups
        tasks = blocks * -(-cut.phases.height // cut.bands.rows) * cut.bands.splits
        assert tasks >= 2, geometry


@pytest.mark.parametrize("geometry", FEW_IMAGES, ids=str)
def test_same_bits_in_serial_and_in_parallel_for_any_number_of_threads(geometry, monkeypatch):
    serial = run(geometry, "float32")
    monkeypatch.setattr(algorithm, "FLOPS_PER_ELEMENT", 1e-9)
    before = numba.get_num_threads()
    for threads in {1, 2, before}:
        numba.set_num_threads(min(threads, before))
        try:
            np.testing.assert_array_equal(run(geometry, "float32"), serial)
        finally:
            numba.set_num_threads(before)


def test_relu_keeps_nan_and_the_residual_is_left_alone():
    geometry = FEW_IMAGES[0]
    x, weight, _, bias, residual, _ = arrays(geometry, "float32")
    x[0, :, 3, 3] = np.nan
    packed = np.empty(conv2d.packed_size(geometry), np.float32)
    conv2d.prepare_weight(geometry, weight, bias, packed)()
    kept, y = residual.copy(), np.empty(geometry.output_shape, np.float32)
    scratch = np.empty(conv2d.scratch_size(geometry, Product.FORWARD), np.float32)
    conv2d.convolution(geometry, x, packed, residual, None, True, scratch, y)()
    assert np.isnan(y[0, :, 2:5, 2:5]).all()
    assert np.isfinite(y[0, :, 5:]).all()
    np.testing.assert_array_equal(residual, kept)


WIDTHS = """
import test_inference as t
for geometry in t.FEW_IMAGES:
    t.assert_close(t.run(geometry, "float32"), t.expected(geometry, "float32"))
"""


@pytest.mark.parametrize("vector_bytes", NARROWER)
def test_agrees_with_narrower_vectors(vector_bytes):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)
