"""exp, the logistic function and tanh of vectors, in the arithmetic of their type.

    x = n ln(2) + r with a whole n and |r| <= ln(2) / 2;  exp(x) = 2^n (1 + m) with m = exp(r) - 1, a polynomial of r

Errors are at most 1.1 units in the last place (exp) and 2.5 (the others), in either type. A NaN stays one. Where exp
would be below the normal numbers it is 0; from just below the largest number on it is infinite.
"""

from dataclasses import dataclass
from math import factorial, log

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.vectors import VectorType, emit_call, zero_constant

__all__ = ["exponential", "logistic", "tangent"]


@dataclass(frozen=True)
class _Format:
    """What depends on the type of number."""

    lowest: float  # exp is a normal finite number from here
    highest: float  # to here
    ln2_high: float  # ends in zeros, so that its product with n is exact (Cody and Waite)
    ln2_low: float  # ln(2) - ln2_high
    terms: int  # of the series of (exp(r) - 1 - r) / r^2: the first one left out cannot be seen
    mantissa: int  # bits
    bias: int  # of the exponent
    largest_tangent: float  # beyond it, tanh is 1 to the last bit

    @property
    def rounding(self) -> float:
        """Adding it rounds to the nearest whole number and leaves that in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa


_FORMATS = {
    types.float32: _Format(-87.3, 88.3, 0.693359375, -2.12194440e-4, 6, 23, 127, 10.0),
    types.float64: _Format(-708.0, 709.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10, 12, 52, 1023, 20.0),
}


def _constant(vector: VectorType, value: float):
    return ir.Constant(vector.llvm, [value] * vector.lanes)


def _fma(builder, vector: VectorType, a, b, c):
    return emit_call(builder, vector, "llvm.fma", a, b, c)


def _between(builder, vector: VectorType, value, lowest: float, highest: float):
    """The value, or the bound that it is beyond; a NaN stays."""
    for sign, bound in (("<", lowest), (">", highest)):
        limit = _constant(vector, bound)
        value = builder.select(builder.fcmp_ordered(sign, value, limit), limit, value)
    return value


def _reduced(builder, vector: VectorType, x):
    """Return (2^n, m): exp(x) = 2^n (1 + m)."""
    form = _FORMATS[vector.scalar]
    x = _between(builder, vector, x, form.lowest, form.highest)
    rounding = _constant(vector, form.rounding)
    rounded = _fma(builder, vector, x, _constant(vector, 1.0 / log(2.0)), rounding)
    n = builder.fsub(rounded, rounding)
    r = _fma(builder, vector, n, _constant(vector, -form.ln2_high), x)
    r = _fma(builder, vector, n, _constant(vector, -form.ln2_low), r)
    integers = ir.VectorType(ir.IntType(vector.scalar.bitwidth), vector.lanes)
    biased = builder.add(builder.bitcast(rounded, integers), ir.Constant(integers, [form.bias] * vector.lanes))
    power = builder.shl(biased, ir.Constant(integers, [form.mantissa] * vector.lanes))
    p = _constant(vector, 1.0 / factorial(form.terms + 1))
    for term in range(form.terms, 1, -1):
        p = _fma(builder, vector, p, r, _constant(vector, 1.0 / factorial(term)))
    return builder.bitcast(power, vector.llvm), _fma(builder, vector, p, builder.fmul(r, r), r)


def _emit_exponential(builder, vector: VectorType, x):
    form = _FORMATS[vector.scalar]
    power, m = _reduced(builder, vector, x)
    value = _fma(builder, vector, power, m, power)
    below = builder.fcmp_ordered("<", x, _constant(vector, form.lowest))
    above = builder.fcmp_ordered(">", x, _constant(vector, form.highest))
    value = builder.select(below, zero_constant(vector), value)
    return builder.select(above, _constant(vector, float("inf")), value)


def _emit_logistic(builder, vector: VectorType, x):
    one = _constant(vector, 1.0)
    return builder.fdiv(one, builder.fadd(one, _emit_exponential(builder, vector, builder.fneg(x))))


def _emit_tangent(builder, vector: VectorType, x):
    """e / (e + 2) with e = exp(2 x) - 1, which keeps its relative precision near zero."""
    largest = _FORMATS[vector.scalar].largest_tangent
    x = _between(builder, vector, x, -largest, largest)
    power, m = _reduced(builder, vector, builder.fadd(x, x))
    e = _fma(builder, vector, power, m, builder.fsub(power, _constant(vector, 1.0)))
    return builder.fdiv(e, builder.fadd(e, _constant(vector, 2.0)))


def _of_vector(emit):
    @intrinsic
    def operation(typing_context, x):
        return x(x), lambda context, builder, signature, args: emit(builder, x, args[0])

    return operation


exponential = _of_vector(_emit_exponential)  # exp(x)
logistic = _of_vector(_emit_logistic)  # 1 / (1 + exp(-x)), without overflow
tangent = _of_vector(_emit_tangent)  # tanh(x)
