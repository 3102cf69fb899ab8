"""The kernel of the depthwise weight gradient, given its row, against its float64 twin."""

import numba
import numpy as np
import pytest
import reference_conv2d as reference
from conv2d_geometries import DEPTHWISE

from minitrain.kernels.conv2d import Geometry
from minitrain.kernels.conv2d.depthwise.weight_cut import cut_depthwise_weight
from minitrain.kernels.conv2d.depthwise.weight_gradient import cut_of, sum_planes

SEVERAL_BLOCKS = Geometry((3, 35, 9, 10), 35, (3, 3), padding=(1, 1), groups=35)


def arrays(g, dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in (g.output_shape, g.input_shape)]


def run(g, dy, x, kernel=sum_planes.serial):
    """The gradient, with scratch and result full of NaN before; what lies around both stays as it is."""
    cut = cut_depthwise_weight(g)
    sizes = cut.scratch, int(np.prod(g.weight_shape))
    scratch, dweight = (np.full(size + 64, np.nan, x.dtype) for size in sizes)
    around = np.arange(32, dtype=x.dtype)
    for array in (scratch, dweight):
        array[:32] = array[-32:] = around
    kernel(cut.row, dy, x, scratch[32:-32], dweight[32:-32].reshape(g.weight_shape))
    for array in (scratch, dweight):
        np.testing.assert_array_equal(array[:32], around)
        np.testing.assert_array_equal(array[-32:], around)
    return dweight[32:-32].reshape(g.weight_shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("g", [*DEPTHWISE, SEVERAL_BLOCKS], ids=str)
def test_agrees_with_the_float64_twin(g, dtype):
    dy, x = arrays(g, dtype)
    wanted, _ = reference.weight_gradient(g, dy.astype("float64"), x.astype("float64"))
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(run(g, dy, x), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("g", [DEPTHWISE[1], SEVERAL_BLOCKS], ids=str)
def test_same_bits_for_any_number_of_workers(g, monkeypatch):
    dy, x = arrays(g, "float32")
    serial = run(g, dy, x)
    for workers in (1, 3, 64):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", workers)
        for kernel in (sum_planes, sum_planes.serial):
            np.testing.assert_array_equal(run(g, dy, x, kernel), serial)


def test_channels_and_images_are_cut_into_tasks():
    cut = cut_depthwise_weight(SEVERAL_BLOCKS)
    shares = cut_of.py_func(cut.row).shares
    assert (shares.images, shares.channels, shares.taps, shares.padded_taps) == (3, 35, 9, 9)
    assert (shares.chunks, shares.blocks) == (3, 2)
    assert cut.chunks == shares.chunks
