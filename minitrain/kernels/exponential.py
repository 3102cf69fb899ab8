"""exp, expm1 and the logistic function as plain arithmetic, so that loops over arrays become vector code.

Calls into libm would keep such loops scalar (about 6 ns a value). Everything is float64: a float32 result is then
correctly rounded but for rare halfway cases, and one implementation serves both dtypes.
"""

import numpy as np

from nbnorm._jit import device

LOG2_E = 1.4426950408889634
# ln(2) in two parts (Cody and Waite): the high one ends in zeros, so that its product with an exponent is exact.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
# Adding 1.5 * 2^52 rounds to the nearest integer and leaves that integer in the low bits of the sum.
ROUND = 6755399441055744.0
LOWEST, HIGHEST = -708.0, 709.0  # exp stays a normal finite number in between


@device
def _reduce(x):
    """Return (scale, m): exp(x) = scale * (1 + m), scale a power of two and |m| < 0.42. NaN gives m = NaN."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    rounded = x * LOG2_E + ROUND
    exponent = rounded - ROUND
    r = x - exponent * LN2_HIGH
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
    return scale, p * (r * r) + r


@device
def exp(x):
    """exp(x) of a float64, to 1 unit in the last place; 0 below -708, infinite above 709."""
    scale, m = _reduce(x)
    value = scale * m + scale
    value = 0.0 if x < LOWEST else value
    return np.inf if x > HIGHEST else value


@device
def sigmoid(x):
    """1 / (1 + exp(-x)); no overflow for any x."""
    return 1.0 / (1.0 + exp(-x))


@device
def tanh(x):
    """tanh(x) = e / (e + 2) with e = exp(2 x) - 1, which keeps its relative precision near zero."""
    x = -20.0 if x < -20.0 else x
    x = 20.0 if x > 20.0 else x  # beyond it, tanh is 1 to the last bit
    scale, m = _reduce(2.0 * x)
    e = scale * m + (scale - 1.0)
    return e / (e + 2.0)
