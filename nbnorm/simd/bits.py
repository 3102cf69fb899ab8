"""Lanes whose bit is set in an integer, as a plan may keep one for each vector: loads and stores under such masks.

With AVX-512 the integer is the mask (kmov). The rules on arrays are those of `vectors`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_even_lanes, emit_masked_load, emit_masked_store
from nbnorm.simd.vectors import INDEX, pointer_to, vector_of

__all__ = ["load_bits", "load_even_bits", "store_bits"]


def _emit_bit_mask(builder, lanes: int, bits):
    """Mask of the lowest bits of a 64-bit integer (kmov)."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(lanes)), ir.VectorType(ir.IntType(1), lanes))


@intrinsic
def load_bits(typing_context, array, index, bits):
    """Vector of array[index + lane] where that bit is set, 0 in the other lanes (their memory is not touched).

    One masked load.
    """
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        return emit_masked_load(builder, vector.llvm, pointer, _emit_bit_mask(builder, vector.lanes, args[2]))

    return vector(array, types.intp, types.int64), codegen


@intrinsic
def load_even_bits(typing_context, array, index, bits):
    """Vector of array[index + 2 * lane] where bit 2 * lane is set; memory whose bit is not set is not touched.

    Two masked loads and a vpermt2 or vshuf.
    """
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        array, index, bits = args
        low, high = bits, builder.lshr(bits, INDEX(vector.lanes))
        masks = [_emit_bit_mask(builder, vector.lanes, half) for half in (low, high)]
        return emit_even_lanes(builder, vector, pointer_to(context, builder, signature.args[0], array, index), masks)

    return vector(array, types.intp, types.int64), codegen


@intrinsic
def store_bits(typing_context, array, index, value, bits):
    """array[index + lane] = value[lane] where that bit is set; the memory of the other lanes is not touched.

    One masked store.
    """

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        emit_masked_store(builder, args[2], pointer, _emit_bit_mask(builder, value.lanes, args[3]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.int64), codegen
