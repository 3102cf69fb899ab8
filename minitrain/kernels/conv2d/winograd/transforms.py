"""The transforms of Winograd's convolution F(4 x 4, 3 x 3), on vectors of channels.

    Y = A^T [(G g G^T) * (B^T d B)] A             4 x 4 outputs of a 3 x 3 kernel g from a 6 x 6 tile d of the input
    dg = G^T [(A dY A^T) * (B^T d B)] G           that tile's share of the kernel's gradient

with a product for each of 36 points instead of 144: polynomials are multiplied by way of their values at the points 0,
a, -a, b, -b and infinity (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The usual a = 1 and
b = 2 make errors four times as large as the points here, which are near the least error of all symmetric ones and make
all factors of B and A exact in float32; on the choice of points see Barabasz, Anderson, Soodhalter & Gregg, "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2018.

A tile that has an infinity or a NaN in it becomes NaN (as far as products are sums of it) as a whole.

In the arrays a value stands for a vector of `lanes` channels. A 6 x 6 array in the domain of the points is written
point by point, `point` values from one to the next; tiles of pixels have rows that are `row` values apart.

The matrices in plain NumPy, for one tile; what kernels call differs from it in that

- a matrix is not multiplied with: of its products, those with 0 and 1 are left out, and pairs of points share theirs;
- a transform of a tile is one straight line of code on registers, of a vector of channels at a time::

    bt, g, at = matrices()
    y = at @ ((g @ weight @ g.T) * (bt @ data @ bt.T)) @ at.T
    dweight = g.T @ ((at.T @ dy @ at) * (bt @ data @ bt.T)) @ g
"""

import numpy as np

from nbnorm.jit import device
from nbnorm.simd.transforms import make_transform
from nbnorm.simd.vectors import lanes_of

__all__ = [
    "BORDER", "POINTS", "TAPS", "TILE", "WINDOW", "matrices", "transform_input", "transform_output",
    "transform_output_gradient", "transform_weight", "transform_weight_gradient",
]  # fmt: skip

TILE = 4  # rows and columns of outputs
TAPS = 3  # rows and columns of a kernel
BORDER = TAPS - 1  # rows and columns of the input that two neighbouring tiles both read
WINDOW = TILE + BORDER  # rows and columns of the input that a tile depends on
POINTS = WINDOW * WINDOW

A, B = 11 / 16, 3 / 2  # see above: other points make larger errors, or factors that float32 must round

# the weights' factors at 0, at a and -a, at b and -b: one over the product of the distances to the other points
_AT_0 = 1 / (A**2 * B**2)
_AT_A = [A**k / (2 * A**2 * (A**2 - B**2)) for k in range(3)]
_AT_B = [B**k / (2 * B**2 * (B**2 - A**2)) for k in range(3)]


def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return B^T (6, 6), G (6, 3) and A^T (4, 6) in float64."""
    finite = np.array([0, A, -A, B, -B])
    others = [np.delete(finite, i) for i in range(5)]
    inputs = [[*np.poly(roots)[::-1], 0] for roots in others]  # the polynomial that is 0 at all other points
    inputs.append(list(np.poly(finite)[::-1]))
    scales = [1 / np.prod(point - roots) for point, roots in zip(finite, others, strict=True)]
    weights = [scale * point ** np.arange(3) for scale, point in zip(scales, finite, strict=True)]
    outputs = [point ** np.arange(4) for point in finite]
    return np.array(inputs), np.array([*weights, [0, 0, 1]]), np.array([*outputs, [0, 0, 0, 1]]).T


# ----------------------------------------------- one-dimensional transforms, with even and odd parts at pairs of points


def _at_pairs(do, even_a, odd_a, even_b, odd_b):
    """Values at a, -a, b, -b of polynomials with these even parts, and these odd parts divided by the point."""
    return do.fma(A, odd_a, even_a), do.fma(-A, odd_a, even_a), do.fma(B, odd_b, even_b), do.fma(-B, odd_b, even_b)


def _sums_and_differences(do, m):
    return do.add(m[1], m[2]), do.subtract(m[1], m[2]), do.add(m[3], m[4]), do.subtract(m[3], m[4])


def _input_line(do, d):
    """B^T d"""
    even_a, odd_a = do.fma(-(B**2), d[2], d[4]), do.fma(-(B**2), d[1], d[3])
    even_b, odd_b = do.fma(-(A**2), d[2], d[4]), do.fma(-(A**2), d[1], d[3])
    ends = [do.fma(A**2 * B**2, d[i], do.fma(-(A**2) - B**2, d[i + 2], d[i + 4])) for i in (0, 1)]
    return ends[0], *_at_pairs(do, even_a, odd_a, even_b, odd_b), ends[1]


def _output_line(do, m):
    """A^T m"""
    sum_a, difference_a, sum_b, difference_b = _sums_and_differences(do, m)
    return (
        do.add(do.add(m[0], sum_a), sum_b),
        do.fma(A, difference_a, do.multiply(B, difference_b)),
        do.fma(A**2, sum_a, do.multiply(B**2, sum_b)),
        do.fma(A**3, difference_a, do.fma(B**3, difference_b, m[5])),
    )


def _output_line_plus(do, m, bias):
    """A^T m + bias"""
    sum_a, difference_a, sum_b, difference_b = _sums_and_differences(do, m)
    return (
        do.add(do.add(m[0], bias), do.add(sum_a, sum_b)),
        do.fma(A, difference_a, do.fma(B, difference_b, bias)),
        do.fma(A**2, sum_a, do.fma(B**2, sum_b, bias)),
        do.fma(A**3, difference_a, do.fma(B**3, difference_b, do.add(m[5], bias))),
    )


def _output_gradient_line(do, y):
    """A dy"""
    parts = [do.fma(square, y[i + 2], y[i]) for square in (A**2, B**2) for i in (0, 1)]
    return y[0], *_at_pairs(do, *parts), y[3]


def _weight_line(do, g):
    """G g"""
    result = [do.multiply(_AT_0, g[0])]
    for factors in (_AT_A, _AT_B):
        even = do.fma(factors[2], g[2], do.multiply(factors[0], g[0]))
        odd = do.multiply(factors[1], g[1])
        result += [do.add(even, odd), do.subtract(even, odd)]
    return *result, g[2]


def _weight_gradient_line(do, s):
    """G^T s"""
    sum_a, difference_a, sum_b, difference_b = _sums_and_differences(do, s)
    return (
        do.fma(_AT_A[0], sum_a, do.fma(_AT_B[0], sum_b, do.multiply(_AT_0, s[0]))),
        do.fma(_AT_A[1], difference_a, do.multiply(_AT_B[1], difference_b)),
        do.fma(_AT_A[2], sum_a, do.fma(_AT_B[2], sum_b, s[5])),
    )


_input = make_transform(_input_line, WINDOW, passes=2)
_output = make_transform(_output_line, WINDOW, _output_line_plus)
_output_gradient = make_transform(_output_gradient_line, TILE)
_weight = make_transform(_weight_line, 3)
_weight_gradient = make_transform(_weight_gradient_line, WINDOW)


# ----------------------------------------------------------------------------------------------- what kernels call


@device
def transform_input(source, tile, row, target, points, point):
    """target[points + p * point:] = B^T d B at point p, for the 6 x 6 tile d at source[tile:]."""
    _input(source, tile, row, lanes_of(source), target, points, WINDOW * point, point)


@device
def transform_output(source, points, point, bias, target, tile, row):
    """The 4 x 4 tile at target[tile:] = A^T M A + bias (a vector), for the M of which source[points + p * point:]."""
    _output(source, points, WINDOW * point, point, target, tile, row, lanes_of(source), bias)


@device
def transform_output_gradient(source, tile, row, target, points, point):
    """target[points + p * point:] = A dY A^T at point p, for the 4 x 4 tile dY at source[tile:]."""
    _output_gradient(source, tile, row, lanes_of(source), target, points, WINDOW * point, point)


@device
def transform_weight(source, kernel, tap, target, points, point):
    """target[points + p * point:] = G g G^T at point p, for the 3 x 3 kernel g at source[kernel:], `tap` values apart.

    A negative `tap` turns the kernel around, if its last one is at source[kernel:].
    """
    _weight(source, kernel, TAPS * tap, tap, target, points, WINDOW * point, point)


@device
def transform_weight_gradient(source, points, point, target, kernel, tap):
    """The 3 x 3 kernel at target[kernel:], `tap` values apart, = G^T S G, for the S at source[points + p * point:].

    It may take the place of S.
    """
    _weight_gradient(source, points, WINDOW * point, point, target, kernel, TAPS * tap, tap)
