"""The transforms of Winograd's convolution against their matrices in float64."""

import numpy as np
import pytest

from minitrain.kernels.conv2d.winograd import transforms as winograd
from nbnorm.jit import kernel
from nbnorm.simd.vectors import LANES_FLOAT32, load

LANES = LANES_FLOAT32
MATRICES = [matrix.copy() for matrix in winograd.matrices()]


@kernel
def run_all(data, dy, products, bias, weight, sums, v, gradient, y, u, turned, dweight):
    lanes = bias.size
    winograd.transform_input(data, 0, 6 * lanes, v, 0, lanes)
    winograd.transform_output_gradient(dy, 0, 4 * lanes, gradient, 0, lanes)
    winograd.transform_output(products, 0, lanes, load(bias, 0), y, 0, 4 * lanes)
    winograd.transform_weight(weight, 0, lanes, u, 0, lanes)
    winograd.transform_weight(weight, 8 * lanes, -lanes, turned, 0, lanes)
    winograd.transform_weight_gradient(sums, 0, lanes, dweight, 0, lanes)


def squares(rng, size):
    return rng.standard_normal((size, size, LANES)).astype(np.float32)


def both_sides(left, square, right):
    return np.einsum("ia,abl,bj->ijl", left, square.astype(np.float64), right)


def test_transforms_agree_with_their_matrices():
    bt, g, at = MATRICES
    rng = np.random.default_rng(0)
    data, dy, products, weight, sums = (squares(rng, size) for size in (6, 4, 6, 3, 6))
    bias = rng.standard_normal(LANES).astype(np.float32)
    results = [np.full((size, size, LANES), np.nan, np.float32) for size in (6, 6, 4, 6, 6, 3)]
    flat = [a.ravel() for a in (data, dy, products, bias, weight, sums, *results)]
    run_all.serial(*flat)
    wanted = [
        both_sides(bt, data, bt.T),
        both_sides(at.T, dy, at),
        both_sides(at, products, at.T) + bias,
        both_sides(g, weight, g.T),
        both_sides(g, weight[::-1, ::-1], g.T),
        both_sides(g.T, sums, g),
    ]
    for actual, expected in zip(results, wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_the_matrices_make_a_convolution():
    bt, g, at = MATRICES
    rng = np.random.default_rng(1)
    data, weight = rng.standard_normal((6, 6)), rng.standard_normal((3, 3))
    y = at @ ((g @ weight @ g.T) * (bt @ data @ bt.T)) @ at.T
    wanted = [[(data[i : i + 3, j : j + 3] * weight).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(y, wanted, atol=1e-13)


@pytest.mark.parametrize("matrix", [0, 2])
def test_factors_of_inputs_and_outputs_are_exact_in_float32(matrix):
    np.testing.assert_array_equal(MATRICES[matrix].astype(np.float32), MATRICES[matrix])
