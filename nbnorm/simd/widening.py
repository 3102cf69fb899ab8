"""Sums in float64 of vectors of either type: as many lanes as a vector of the array has, of twice the width."""

from numba import types
from numba.extending import intrinsic

from nbnorm.simd.vectors import VectorType, emit_load, emit_store, pointer_to, vector_of, zero_constant

__all__ = ["add_wide", "no_sum", "widen_add"]


@intrinsic
def no_sum(typing_context, array):
    """A vector of zeros in float64 with as many lanes as a vector of the array's type (vxor, of each register)."""
    wide = VectorType(types.float64, vector_of(array.dtype).lanes)
    return wide(array), lambda context, builder, signature, args: zero_constant(wide)


def _emit_widened(builder, vector: VectorType, value):
    wide = VectorType(types.float64, vector.lanes)
    return value if vector.scalar == types.float64 else builder.fpext(value, wide.llvm)


@intrinsic
def widen_add(typing_context, total, value):
    """Sum total + value, lane by lane in float64, the type of total (for float32 two vcvtps2pd and two vaddpd)."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], _emit_widened(builder, value, args[1]))

    return total(total, value), codegen


@intrinsic
def add_wide(typing_context, totals, index, value):
    """totals[index : index + lanes] += value, lane by lane in float64, the type of totals (vcvtps2pd, vaddpd)."""

    def codegen(context, builder, signature, args):
        array, first, lanes = args
        wide = VectorType(types.float64, value.lanes)
        pointer = pointer_to(context, builder, signature.args[0], array, first)
        total = builder.fadd(emit_load(builder, wide, pointer), _emit_widened(builder, value, lanes))
        emit_store(builder, wide, total, pointer)
        return context.get_dummy_value()

    return types.void(totals, types.intp, value), codegen
