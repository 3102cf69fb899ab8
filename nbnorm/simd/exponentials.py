"""exp, the logistic function and tanh of vectors, in the arithmetic of their type.

    x = n ln(2) + r with a whole n and |r| <= ln(2) / 2;  exp(x) = 2^n (1 + m) with m = exp(r) - 1, a polynomial of r

Errors are at most 1.1 units in the last place (exp) and 2.5 (the others), in either type. A NaN stays one. Where exp
would be below the normal numbers it is 0; from just below the largest number on it is infinite.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial, log
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.vectors import VectorType, emit_call

__all__ = ["exp", "exponential", "logistic", "tangent"]


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


@dataclass(frozen=True)
class _Arithmetic:
    """How vectors, or one float64, are calculated with: the type in LLVM's code, and a * b + c."""

    form: _Format
    llvm: ir.Type
    integers: ir.Type
    multiply_add: Callable[..., Any]

    @staticmethod
    def of_vector(vector: VectorType) -> "_Arithmetic":
        integers = ir.VectorType(ir.IntType(vector.scalar.bitwidth), vector.lanes)

        def fused(builder, a, b, c):
            return emit_call(builder, vector, "llvm.fma", a, b, c)

        return _Arithmetic(_FORMATS[vector.scalar], vector.llvm, integers, fused)

    @staticmethod
    def of_number() -> "_Arithmetic":
        """Of one float64: in two roundings, so that LLVM needs no FMA and can make vectors of it by itself."""

        def in_two(builder, a, b, c):
            return builder.fadd(builder.fmul(a, b), c)

        return _Arithmetic(_FORMATS[types.float64], ir.DoubleType(), ir.IntType(64), in_two)

    def number(self, value: float) -> Any:
        """Constant of it, in every lane."""
        return _constant(self.llvm, value)

    def integer(self, value: int) -> Any:
        """Constant integer of the same width, in every lane."""
        return _constant(self.integers, value)


def _constant(kind: ir.Type, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _between(builder, of: _Arithmetic, value, lowest: float, highest: float):
    """The value, or the bound that it is beyond; a NaN stays."""
    for sign, bound in (("<", lowest), (">", highest)):
        limit = of.number(bound)
        value = builder.select(builder.fcmp_ordered(sign, value, limit), limit, value)
    return value


def _reduced(builder, of: _Arithmetic, x):
    """Return (2^n, m): exp(x) = 2^n (1 + m)."""
    form = of.form
    x = _between(builder, of, x, form.lowest, form.highest)
    rounding = of.number(form.rounding)
    rounded = of.multiply_add(builder, x, of.number(1.0 / log(2.0)), rounding)
    n = builder.fsub(rounded, rounding)
    r = of.multiply_add(builder, n, of.number(-form.ln2_high), x)
    r = of.multiply_add(builder, n, of.number(-form.ln2_low), r)
    biased = builder.add(builder.bitcast(rounded, of.integers), of.integer(form.bias))
    power = builder.shl(biased, of.integer(form.mantissa))
    p = of.number(1.0 / factorial(form.terms + 1))
    for term in range(form.terms, 1, -1):
        p = of.multiply_add(builder, p, r, of.number(1.0 / factorial(term)))
    return builder.bitcast(power, of.llvm), of.multiply_add(builder, p, builder.fmul(r, r), r)


def _emit_exponential(builder, of: _Arithmetic, x):
    power, m = _reduced(builder, of, x)
    value = of.multiply_add(builder, power, m, power)
    below = builder.fcmp_ordered("<", x, of.number(of.form.lowest))
    above = builder.fcmp_ordered(">", x, of.number(of.form.highest))
    value = builder.select(below, of.number(0.0), value)
    return builder.select(above, of.number(float("inf")), value)


def _emit_logistic(builder, of: _Arithmetic, x):
    one = of.number(1.0)
    return builder.fdiv(one, builder.fadd(one, _emit_exponential(builder, of, builder.fneg(x))))


def _emit_tangent(builder, of: _Arithmetic, x):
    """e / (e + 2) with e = exp(2 x) - 1, which keeps its relative precision near zero."""
    largest = of.form.largest_tangent
    x = _between(builder, of, x, -largest, largest)
    power, m = _reduced(builder, of, builder.fadd(x, x))
    e = of.multiply_add(builder, power, m, builder.fsub(power, of.number(1.0)))
    return builder.fdiv(e, builder.fadd(e, of.number(2.0)))


@intrinsic
def exponential(typing_context, x):
    """exp(x) of a vector (about 14 vfmadd for float32, 20 for float64, and no division)."""
    return x(x), lambda context, builder, signature, args: _emit_exponential(builder, _Arithmetic.of_vector(x), *args)


@intrinsic
def logistic(typing_context, x):
    """1 / (1 + exp(-x)) of a vector, without overflow (as `exponential`, and a vdiv)."""
    return x(x), lambda context, builder, signature, args: _emit_logistic(builder, _Arithmetic.of_vector(x), *args)


@intrinsic
def tangent(typing_context, x):
    """tanh(x) of a vector (as `exponential`, and a vdiv)."""
    return x(x), lambda context, builder, signature, args: _emit_tangent(builder, _Arithmetic.of_vector(x), *args)


@intrinsic
def exp(typing_context, x):
    """exp(x) of one float64, to 1 unit in the last place, for loops that call it value by value (mulsd, addsd).

    0 below -708, infinite above 709; NaN stays NaN.
    """
    number = types.float64

    def codegen(context, builder, signature, args):
        return _emit_exponential(builder, _Arithmetic.of_number(), *args)

    return number(number), codegen
