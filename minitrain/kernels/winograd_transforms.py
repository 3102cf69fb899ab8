"""The transforms of Winograd's convolution F(4 x 4, 3 x 3), on vectors of channels.

    Y = A^T [(G g G^T) * (B^T d B)] A             4 x 4 outputs of a 3 x 3 kernel g from a 6 x 6 tile d of the input
    dg = G^T [(A dY A^T) * (B^T d B)] G           that tile's share of the kernel's gradient

with a product for each of 36 points instead of 144: polynomials are multiplied by way of their values at the points 0,
a, -a, b, -b and infinity (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The usual a = 1 and
b = 2 lose three times as many digits as the points here, which are near the least error of all symmetric ones and make
all factors of B and A exact in float32; on the choice of points see Barabasz, Anderson, Soodhalter & Gregg, "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2018.

A tile that has an infinity or a NaN in it becomes NaN (as far as products are sums of it) as a whole.

In the arrays a value stands for a vector of `lanes` channels. A 6 x 6 array in the domain of the points is written
point by point, `step` values from one to the next; tiles of pixels have rows that are `pitch` values apart.
"""

import numpy as np

from nbnorm._jit import device
from nbnorm.simd.vectors import add, fma, lanes_of, load, multiply, splat, store, subtract

__all__ = [
    "POINTS", "TILE", "WINDOW", "matrices", "transform_input", "transform_output", "transform_output_gradient",
    "transform_weight", "transform_weight_gradient",
]  # fmt: skip

TILE = 4  # rows and columns of outputs
WINDOW = 6  # rows and columns of the input that they depend on
POINTS = WINDOW * WINDOW

A, B = 11 / 16, 3 / 2

_A, _B, _MINUS_A, _MINUS_B = (np.float32(v) for v in (A, B, -A, -B))
_A2, _B2, _A3, _B3 = (np.float32(v) for v in (A**2, B**2, A**3, B**3))
_MINUS_A2, _MINUS_B2 = np.float32(-(A**2)), np.float32(-(B**2))
_PRODUCT, _MINUS_SUM = np.float32(A**2 * B**2), np.float32(-(A**2) - B**2)  # of the squares

# the weights' factors at 0, at a and -a, at b and -b: one over the product of the distances to the other points
_AT_0 = np.float32(1 / (A**2 * B**2))
_AT_A = tuple(np.float32(A**k / (2 * A**2 * (A**2 - B**2))) for k in range(3))
_AT_B = tuple(np.float32(B**k / (2 * B**2 * (B**2 - A**2))) for k in range(3))
_A_0, _A_1, _A_2 = _AT_A
_B_0, _B_1, _B_2 = _AT_B


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


@device
def _input_line(d0, d1, d2, d3, d4, d5):
    """B^T d: at a and -a the sum and the difference of an even and an odd part, likewise at b and -b."""
    even_a, odd_a = fma(splat(_MINUS_B2), d2, d4), fma(splat(_MINUS_B2), d1, d3)
    even_b, odd_b = fma(splat(_MINUS_A2), d2, d4), fma(splat(_MINUS_A2), d1, d3)
    return (
        fma(splat(_PRODUCT), d0, fma(splat(_MINUS_SUM), d2, d4)),
        fma(splat(_A), odd_a, even_a),
        fma(splat(_MINUS_A), odd_a, even_a),
        fma(splat(_B), odd_b, even_b),
        fma(splat(_MINUS_B), odd_b, even_b),
        fma(splat(_PRODUCT), d1, fma(splat(_MINUS_SUM), d3, d5)),
    )


@device
def _output_line(m0, m1, m2, m3, m4, m5):
    """A^T m"""
    sum_a, difference_a = add(m1, m2), subtract(m1, m2)
    sum_b, difference_b = add(m3, m4), subtract(m3, m4)
    return (
        add(add(m0, sum_a), sum_b),
        fma(splat(_A), difference_a, multiply(splat(_B), difference_b)),
        fma(splat(_A2), sum_a, multiply(splat(_B2), sum_b)),
        fma(splat(_A3), difference_a, fma(splat(_B3), difference_b, m5)),
    )


@device
def _output_line_plus(m0, m1, m2, m3, m4, m5, bias):
    """A^T m + bias"""
    sum_a, difference_a = add(m1, m2), subtract(m1, m2)
    sum_b, difference_b = add(m3, m4), subtract(m3, m4)
    return (
        add(add(m0, bias), add(sum_a, sum_b)),
        fma(splat(_A), difference_a, fma(splat(_B), difference_b, bias)),
        fma(splat(_A2), sum_a, fma(splat(_B2), sum_b, bias)),
        fma(splat(_A3), difference_a, fma(splat(_B3), difference_b, add(m5, bias))),
    )


@device
def _output_gradient_line(y0, y1, y2, y3):
    """A dy"""
    even_a, odd_a = fma(splat(_A2), y2, y0), fma(splat(_A2), y3, y1)
    even_b, odd_b = fma(splat(_B2), y2, y0), fma(splat(_B2), y3, y1)
    return (
        y0,
        fma(splat(_A), odd_a, even_a),
        fma(splat(_MINUS_A), odd_a, even_a),
        fma(splat(_B), odd_b, even_b),
        fma(splat(_MINUS_B), odd_b, even_b),
        y3,
    )


@device
def _weight_line(g0, g1, g2):
    """G g"""
    even_a, odd_a = fma(splat(_A_2), g2, multiply(splat(_A_0), g0)), multiply(splat(_A_1), g1)
    even_b, odd_b = fma(splat(_B_2), g2, multiply(splat(_B_0), g0)), multiply(splat(_B_1), g1)
    return (
        multiply(splat(_AT_0), g0),
        add(even_a, odd_a),
        subtract(even_a, odd_a),
        add(even_b, odd_b),
        subtract(even_b, odd_b),
        g2,
    )


@device
def _weight_gradient_line(s0, s1, s2, s3, s4, s5):
    """G^T s"""
    sum_a, difference_a = add(s1, s2), subtract(s1, s2)
    sum_b, difference_b = add(s3, s4), subtract(s3, s4)
    return (
        fma(splat(_A_0), sum_a, fma(splat(_B_0), sum_b, multiply(splat(_AT_0), s0))),
        fma(splat(_A_1), difference_a, multiply(splat(_B_1), difference_b)),
        fma(splat(_A_2), sum_a, fma(splat(_B_2), sum_b, s5)),
    )


@device
def _load_6(source, at, step):
    return (
        load(source, at), load(source, at + step), load(source, at + 2 * step),
        load(source, at + 3 * step), load(source, at + 4 * step), load(source, at + 5 * step),
    )  # fmt: skip


@device
def _store_6(target, to, step, values):
    store(target, to, values[0])
    store(target, to + step, values[1])
    store(target, to + 2 * step, values[2])
    store(target, to + 3 * step, values[3])
    store(target, to + 4 * step, values[4])
    store(target, to + 5 * step, values[5])


@device
def transform_input(source, at, pitch, target, to, step):
    """target[to + point * step:] = B^T d B, for the 6 x 6 tile d at source[at:]."""
    lanes = lanes_of(source)
    c0 = _input_line(*_load_6(source, at, pitch))
    c1 = _input_line(*_load_6(source, at + lanes, pitch))
    c2 = _input_line(*_load_6(source, at + 2 * lanes, pitch))
    c3 = _input_line(*_load_6(source, at + 3 * lanes, pitch))
    c4 = _input_line(*_load_6(source, at + 4 * lanes, pitch))
    c5 = _input_line(*_load_6(source, at + 5 * lanes, pitch))
    _store_6(target, to, step, _input_line(c0[0], c1[0], c2[0], c3[0], c4[0], c5[0]))
    _store_6(target, to + 6 * step, step, _input_line(c0[1], c1[1], c2[1], c3[1], c4[1], c5[1]))
    _store_6(target, to + 12 * step, step, _input_line(c0[2], c1[2], c2[2], c3[2], c4[2], c5[2]))
    _store_6(target, to + 18 * step, step, _input_line(c0[3], c1[3], c2[3], c3[3], c4[3], c5[3]))
    _store_6(target, to + 24 * step, step, _input_line(c0[4], c1[4], c2[4], c3[4], c4[4], c5[4]))
    _store_6(target, to + 30 * step, step, _input_line(c0[5], c1[5], c2[5], c3[5], c4[5], c5[5]))


@device
def transform_output(source, at, step, bias, target, to, pitch):
    """The 4 x 4 tile at target[to:] = A^T M A + bias (a vector), for the M at source[at + point * step:]."""
    lanes = lanes_of(source)
    c0 = _output_line(*_load_6(source, at, 6 * step))
    c1 = _output_line(*_load_6(source, at + step, 6 * step))
    c2 = _output_line(*_load_6(source, at + 2 * step, 6 * step))
    c3 = _output_line(*_load_6(source, at + 3 * step, 6 * step))
    c4 = _output_line(*_load_6(source, at + 4 * step, 6 * step))
    c5 = _output_line(*_load_6(source, at + 5 * step, 6 * step))
    _store_4(target, to, lanes, _output_line_plus(c0[0], c1[0], c2[0], c3[0], c4[0], c5[0], bias))
    _store_4(target, to + pitch, lanes, _output_line_plus(c0[1], c1[1], c2[1], c3[1], c4[1], c5[1], bias))
    _store_4(target, to + 2 * pitch, lanes, _output_line_plus(c0[2], c1[2], c2[2], c3[2], c4[2], c5[2], bias))
    _store_4(target, to + 3 * pitch, lanes, _output_line_plus(c0[3], c1[3], c2[3], c3[3], c4[3], c5[3], bias))


@device
def _load_4(source, at, step):
    return load(source, at), load(source, at + step), load(source, at + 2 * step), load(source, at + 3 * step)


@device
def _store_4(target, to, step, values):
    store(target, to, values[0])
    store(target, to + step, values[1])
    store(target, to + 2 * step, values[2])
    store(target, to + 3 * step, values[3])


@device
def transform_output_gradient(source, at, pitch, target, to, step):
    """target[to + point * step:] = A dY A^T, for the 4 x 4 tile dY at source[at:]."""
    lanes = lanes_of(source)
    c0 = _output_gradient_line(*_load_4(source, at, pitch))
    c1 = _output_gradient_line(*_load_4(source, at + lanes, pitch))
    c2 = _output_gradient_line(*_load_4(source, at + 2 * lanes, pitch))
    c3 = _output_gradient_line(*_load_4(source, at + 3 * lanes, pitch))
    _store_6(target, to, step, _output_gradient_line(c0[0], c1[0], c2[0], c3[0]))
    _store_6(target, to + 6 * step, step, _output_gradient_line(c0[1], c1[1], c2[1], c3[1]))
    _store_6(target, to + 12 * step, step, _output_gradient_line(c0[2], c1[2], c2[2], c3[2]))
    _store_6(target, to + 18 * step, step, _output_gradient_line(c0[3], c1[3], c2[3], c3[3]))
    _store_6(target, to + 24 * step, step, _output_gradient_line(c0[4], c1[4], c2[4], c3[4]))
    _store_6(target, to + 30 * step, step, _output_gradient_line(c0[5], c1[5], c2[5], c3[5]))


@device
def transform_weight(source, at, tap, target, to, step):
    """target[to + point * step:] = G g G^T, for the 3 x 3 kernel g at source[at:], a tap each `tap` values.

    A negative `tap` turns the kernel around, if `at` is its last one.
    """
    c0 = _weight_line(load(source, at), load(source, at + 3 * tap), load(source, at + 6 * tap))
    c1 = _weight_line(load(source, at + tap), load(source, at + 4 * tap), load(source, at + 7 * tap))
    c2 = _weight_line(load(source, at + 2 * tap), load(source, at + 5 * tap), load(source, at + 8 * tap))
    _store_6(target, to, step, _weight_line(c0[0], c1[0], c2[0]))
    _store_6(target, to + 6 * step, step, _weight_line(c0[1], c1[1], c2[1]))
    _store_6(target, to + 12 * step, step, _weight_line(c0[2], c1[2], c2[2]))
    _store_6(target, to + 18 * step, step, _weight_line(c0[3], c1[3], c2[3]))
    _store_6(target, to + 24 * step, step, _weight_line(c0[4], c1[4], c2[4]))
    _store_6(target, to + 30 * step, step, _weight_line(c0[5], c1[5], c2[5]))


@device
def transform_weight_gradient(source, at, step, target, to, tap):
    """The 3 x 3 kernel at target[to:], a tap each `tap` values, = G^T S G, for the S at source[at + point * step:]."""
    c0 = _weight_gradient_line(*_load_6(source, at, 6 * step))
    c1 = _weight_gradient_line(*_load_6(source, at + step, 6 * step))
    c2 = _weight_gradient_line(*_load_6(source, at + 2 * step, 6 * step))
    c3 = _weight_gradient_line(*_load_6(source, at + 3 * step, 6 * step))
    c4 = _weight_gradient_line(*_load_6(source, at + 4 * step, 6 * step))
    c5 = _weight_gradient_line(*_load_6(source, at + 5 * step, 6 * step))
    _store_3(target, to, tap, _weight_gradient_line(c0[0], c1[0], c2[0], c3[0], c4[0], c5[0]))
    _store_3(target, to + 3 * tap, tap, _weight_gradient_line(c0[1], c1[1], c2[1], c3[1], c4[1], c5[1]))
    _store_3(target, to + 6 * tap, tap, _weight_gradient_line(c0[2], c1[2], c2[2], c3[2], c4[2], c5[2]))


@device
def _store_3(target, to, step, values):
    store(target, to, values[0])
    store(target, to + step, values[1])
    store(target, to + 2 * step, values[2])
