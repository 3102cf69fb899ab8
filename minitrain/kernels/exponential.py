"""exp of a float64 as plain arithmetic, for loops that call it value by value; vectors: nbnorm.simd.exponentials."""

import numpy as np

from nbnorm.jit import device

LOG2_E = 1.4426950408889634
# ln(2) in two parts (Cody and Waite): the high one ends in zeros, so that its product with an exponent is exact.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
# Adding 1.5 * 2^52 rounds to the nearest integer and leaves that integer in the low bits of the sum.
ROUND = 6755399441055744.0
LOWEST, HIGHEST = -708.0, 709.0  # exp stays a normal finite number in between


@device
def exp(x):
    """exp(x), to 1 unit in the last place; 0 below -708, infinite above 709. NaN stays NaN."""
    inside = LOWEST if x < LOWEST else x
    inside = HIGHEST if inside > HIGHEST else inside
    rounded = inside * LOG2_E + ROUND
    exponent = rounded - ROUND
    r = inside - exponent * LN2_HIGH
    r = r - exponent * LN2_LOW
    scale = np.int64((np.float64(rounded).view(np.int64) + 1023) << 52).view(np.float64)
    # Taylor's series of (exp(r) - 1 - r) / r^2: for |r| <= ln(2) / 2 the first term left out is below 1e-17.
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    value = scale * (p * (r * r) + r) + scale
    value = 0.0 if x < LOWEST else value
    return np.inf if x > HIGHEST else value
