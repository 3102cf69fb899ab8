"""The bits of a float32 and back; float16 and bfloat16 by integers, as every processor can, rounded to nearest even."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.jit import device

__all__ = ["from_bfloat16", "from_float16", "to_bfloat16", "to_float16"]

U32, U16, F32 = np.uint32, np.uint16, np.float32
SIGN, QUIET = U32(0x8000_0000), U32(0x40)
INFINITY = U32(0x7F80_0000)
# float16 has 5 bits of exponent, float32 8: 112 more of bias, and 13 bits more of mantissa.
SCALE = F32(2.0**112)
INFINITY_16, NAN_16 = U32(0x7C00), U32(0x7E00)
OVERFLOW, SMALLEST = U32((127 + 16) << 23), U32((127 - 14) << 23)  # 65536; the smallest normal float16
DENORMAL = U32((127 - 1) << 23)  # 0.5: adding it leaves a denormal float16 in the lowest bits, rounded
BIAS = U32((112 << 23) - 0xFFF)  # what the exponent loses, but for the half to round with, which is added


@intrinsic
def _float_of(typing_context, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def _bits_of(typing_context, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@device
def from_bfloat16(half):
    """The float32 of the bits of a bfloat16."""
    return _float_of(U32(U32(half) << U32(16)))


@device
def to_bfloat16(value):
    """The bits of the nearest bfloat16."""
    bits = _bits_of(F32(value))
    odd = U32(U32(bits >> U32(16)) & U32(1))
    rounded = U32(U32(bits + U32(0x7FFF)) + odd)
    is_nan = U32(bits & U32(~SIGN)) > INFINITY
    return U16(U32(rounded >> U32(16))) if not is_nan else U16(U32(U32(bits >> U32(16)) | QUIET))


@device
def from_float16(half):
    """The float32 of the bits of a float16."""
    magnitude = U32(U32(half) & U32(0x7FFF))
    bits = _bits_of(F32(_float_of(U32(magnitude << U32(13))) * SCALE))
    special = INFINITY if magnitude >= INFINITY_16 else U32(0)
    return _float_of(U32(U32(bits | special) | U32(U32(U32(half) & U32(0x8000)) << U32(16))))


@device
def to_float16(value):
    """The bits of the nearest float16; infinity where it is beyond the largest."""
    bits = _bits_of(F32(value))
    sign = U32(bits & SIGN)
    magnitude = U32(bits ^ sign)
    odd = U32(U32(magnitude >> U32(13)) & U32(1))
    normal = U32(U32(U32(magnitude - BIAS) + odd) >> U32(13))
    denormal = U32(_bits_of(F32(_float_of(magnitude) + _float_of(DENORMAL))) - DENORMAL)
    half = denormal if magnitude < SMALLEST else normal
    special = NAN_16 if magnitude > INFINITY else INFINITY_16
    half = special if magnitude >= OVERFLOW else half
    return U16(U32(half | U32(sign >> U32(16))))
