"""Lanes that count and lanes that do not, by a byte for each. The rules on arrays are those of `vectors`."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.vectors import pointer_to

__all__ = ["keep"]


@intrinsic
def keep(typing_context, value, valid, index):
    """Lanes of `value` where valid[index + lane], bytes, is not 0, and 0 in the others, whatever they hold.

    As many bytes as there are lanes are read (vptestmb and a masked vmov; vpmovzx, vpcmp and vpand with AVX2).
    """

    def codegen(context, builder, signature, args):
        lanes, array, first = args
        kind = ir.VectorType(ir.IntType(8), value.lanes)
        pointer = pointer_to(context, builder, signature.args[1], array, first)
        loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        loaded.align = 1
        mask = builder.icmp_unsigned("!=", loaded, ir.Constant(kind, None))
        return builder.select(mask, lanes, ir.Constant(value.llvm, None))

    return value(value, valid, types.intp), codegen
