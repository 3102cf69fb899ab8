"""The weight gradient in Winograd's form against its float64 twin and PyTorch, where it pays and where it does not."""

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
from vector_widths import OTHER

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product
from minitrain.kernels.conv2d.winograd.cut import fits
from minitrain.kernels.conv2d.winograd.weight_cut import cut_winograd_weight
from minitrain.kernels.conv2d.winograd.weight_gradient import sum_winograd

NONE = np.empty(0, "float32")
BOUND = 1e-5  # of the largest gradient; measured up to 2e-6

GEOMETRIES = [
    Geometry((3, 16, 8, 8), 16, (3, 3), padding=(1, 1)),
    Geometry((2, 16, 33, 40), 24, (3, 3), padding=(1, 1)),  # several bands
    Geometry((5, 70, 9, 13), 65, (3, 3), padding=(0, 2)),  # several blocks of channels and of outputs
    Geometry((19, 3, 6, 5), 4, (3, 3), padding=(1, 1)),  # several images in a panel
    Geometry((2, 5, 3, 75), 7, (3, 3), padding=(0, 0)),
]


def arrays(geometry, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype("float32") for shape in (geometry.output_shape, geometry.input_shape)]


def run(geometry, dy, x, kernel=sum_winograd, normalization=NONE):
    """The gradient, with scratch and result full of NaN before; what lies around both stays as it is."""
    cut = cut_winograd_weight(geometry)
    scratch, dweight = (
        np.full(size + 64, np.nan, "float32") for size in (cut.scratch, int(np.prod(geometry.weight_shape)))
    )
    around = np.arange(32, dtype="float32")
    for array in (scratch, dweight):
        array[:32] = array[-32:] = around
    result = dweight[32:-32].reshape(geometry.weight_shape)
    kernel(cut.row, dy, x, normalization, scratch[32:-32], result)
    for array in (scratch, dweight):
        np.testing.assert_array_equal(array[:32], around)
        np.testing.assert_array_equal(array[-32:], around)
    return result


def assert_agrees(geometry, seed=0):
    dy, x = arrays(geometry, seed)
    wanted, _ = reference.weight_gradient(geometry, dy.astype("float64"), x.astype("float64"))
    assert np.abs(run(geometry, dy, x, sum_winograd.serial) - wanted).max() <= BOUND * np.abs(wanted).max()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_agrees_with_the_float64_twin(geometry):
    assert_agrees(geometry)


@st.composite
def geometries(draw):
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    shape = [draw(st.integers(1, 6)), draw(st.integers(1, 40)), *(draw(st.integers(3, 40)) for _ in range(2))]
    return Geometry(tuple(shape), draw(st.integers(1, 40)), (3, 3), padding=padding)


@settings(max_examples=60, deadline=None)
@given(geometries().filter(fits), st.integers(0, 9))
def test_any_shape(geometry, seed):
    assert_agrees(geometry, seed)


@pytest.mark.parametrize("geometry", GEOMETRIES[:2], ids=str)
def test_agrees_with_pytorch(geometry):
    torch = pytest.importorskip("torch")
    dy, x = arrays(geometry)
    wanted = torch.nn.grad.conv2d_weight(
        torch.from_numpy(x).double(), geometry.weight_shape, torch.from_numpy(dy).double(), padding=geometry.padding
    ).numpy()
    assert np.abs(run(geometry, dy, x) - wanted).max() <= BOUND * np.abs(wanted).max()


def test_same_bits_in_serial_and_in_parallel_for_any_number_of_threads():
    dy, x = arrays(GEOMETRIES[1])
    serial = run(GEOMETRIES[1], dy, x, sum_winograd.serial)
    before = numba.get_num_threads()
    for threads in {1, 2, before}:
        numba.set_num_threads(min(threads, before))
        try:
            np.testing.assert_array_equal(run(GEOMETRIES[1], dy, x), serial)
        finally:
            numba.set_num_threads(before)


def test_normalizes_x_on_the_way():
    geometry = Geometry((12, 21, 9, 10), 30, (3, 3), padding=(1, 1))
    assert conv2d.normalizes(geometry, Product.FORWARD)
    rng = np.random.default_rng(2)
    dy, x = arrays(geometry)
    mean, inv_std, gamma, beta = (rng.standard_normal(21) for _ in range(4))
    gamma, beta = gamma.astype("float32"), beta.astype("float32")
    normalization = np.full(conv2d.normalization_shape(21), np.nan, "float32")
    conv2d.write_normalization.serial(mean, inv_std, gamma, beta, normalization)
    columns = [a[:, None, None] for a in (mean, inv_std * gamma, beta)]
    normalized = np.maximum((x - columns[0]) * columns[1] + columns[2], 0).astype("float32")

    weight, bias = rng.standard_normal((30, 21, 3, 3), dtype="float32"), rng.standard_normal(30, dtype="float32")
    y, dweight, dbias = np.empty_like(dy), np.empty_like(weight), np.empty_like(bias)
    scratch = np.full(conv2d.scratch_size(geometry, Product.FORWARD), np.nan, "float32")
    conv2d.forward(geometry, x, weight, bias, scratch, y, normalization=normalization)()
    wanted = reference.forward(geometry, normalized, weight, bias)
    assert np.abs(y - wanted).max() <= BOUND * np.abs(wanted).max()

    scratch = np.full(conv2d.scratch_size(geometry, Product.WEIGHT_GRADIENT, normalizing=True), np.nan, "float32")
    conv2d.weight_gradient(geometry, dy, x, scratch, dweight, dbias, normalization)()
    wanted, _ = reference.weight_gradient(geometry, dy, normalized)
    assert np.abs(dweight - wanted).max() <= BOUND * np.abs(wanted).max()


def test_the_convolution_uses_it_where_it_pays():
    geometry = Geometry((32, 32, 16, 16), 32, (3, 3), padding=(1, 1))
    assert conv2d.normalizes(geometry, Product.WEIGHT_GRADIENT)
    dy, x = arrays(geometry)
    dweight = np.empty(geometry.weight_shape, "float32")
    scratch = np.full(conv2d.scratch_size(geometry, Product.WEIGHT_GRADIENT), np.nan, "float32")
    conv2d.weight_gradient(geometry, dy, x, scratch, dweight, None)()
    np.testing.assert_array_equal(dweight, run(geometry, dy, x))


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((128, 64, 16, 16), 64, (3, 3), stride=(2, 2), padding=(1, 1)),
        Geometry((128, 64, 16, 16), 64, (3, 3), padding=(2, 2), dilation=(2, 2)),
        Geometry((128, 64, 16, 16), 64, (3, 3), padding=(1, 1), groups=2),
        Geometry((128, 64, 16, 16), 64, (3, 3), padding=(3, 3)),
        Geometry((128, 64, 16, 16), 64, (3, 1)),
        Geometry((128, 64, 3, 3), 64, (3, 3), padding=(1, 1)),
        Geometry((128, 3, 32, 32), 16, (3, 3), padding=(1, 1)),  # could, but is slower
    ],
    ids=str,
)
def test_other_convolutions_do_without(geometry):
    assert not conv2d.normalizes(geometry, Product.WEIGHT_GRADIENT)


WIDTHS = """
import test_winograd_weight_gradient as t
for geometry in t.GEOMETRIES:
    t.assert_agrees(geometry)
"""


@pytest.mark.parametrize("vector_bytes", OTHER)
def test_agrees_with_other_vectors(vector_bytes):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)
