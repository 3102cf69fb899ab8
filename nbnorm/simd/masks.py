"""Part of a vector: loads and stores of some lanes. The rules on arrays are those of `vectors`.

With AVX-512 a mask is a register of bits, and a masked load or store is an ordinary one under it (vmovu {k}); AVX2 has
vmaskmov for values of 32 and 64 bits. Without either LLVM writes a branch for each lane.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbnorm.simd.shuffles import emit_shuffle
from nbnorm.simd.vectors import INDEX, INT32, emit_splat, pointer_to, vector_of

__all__ = [
    "blend", "emit_even_lanes", "emit_first_lanes", "emit_lane_mask", "emit_load_between", "emit_masked_load",
    "emit_masked_store", "emit_store_between", "load_between", "load_even_between", "load_part", "store_between",
    "store_interleaved", "store_part",
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ masks: a bit a lane


def _lane_numbers(lanes: int):
    return ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))


def emit_first_lanes(builder, lanes: int, count):
    """Mask of the lanes below `count`, which is not negative (vpcmpgt)."""
    numbers = _lane_numbers(lanes)
    return builder.icmp_signed("<", numbers, emit_splat(builder, numbers.type, builder.trunc(count, INT32)))


def emit_lane_mask(builder, lanes: int, low, high):
    """Mask of low <= lane < high, of 64-bit bounds of any size and sign (two vpcmpgt and a vpand)."""
    numbers = _lane_numbers(lanes)

    def splat(bound):
        below = builder.select(builder.icmp_signed("<", bound, INDEX(0)), INDEX(0), bound)
        most = INDEX(lanes)
        clipped = builder.trunc(builder.select(builder.icmp_signed(">", below, most), most, below), INT32)
        return emit_splat(builder, numbers.type, clipped)

    return builder.and_(builder.icmp_signed(">=", numbers, splat(low)), builder.icmp_signed("<", numbers, splat(high)))


# ------------------------------------------------------------------------------------------ loads and stores under them


def _element(vector: ir.VectorType) -> tuple[str, int]:
    """LLVM's letter for the kind of its elements, and their bits."""
    if isinstance(vector.element, ir.IntType):
        return "i", vector.element.width
    return "f", 64 if isinstance(vector.element, ir.DoubleType) else 32


def _emit_masked(builder, name: str, vector: ir.VectorType, result, *args):
    """Call llvm.masked.load or llvm.masked.store.

    The name of its pointers is that of pointers without a type (`p0`), which LLVM 15 (of Numba 0.61) and its successors
    understand alike: where pointers still have types, its parser completes the name.
    """
    letter, bits = _element(vector)
    signature = ir.FunctionType(result, [arg.type for arg in args])
    name = f"llvm.masked.{name}.v{vector.count}{letter}{bits}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def _alignment(vector: ir.VectorType):
    """Bytes of an element, since vectors lie anywhere."""
    return INT32(_element(vector)[1] // 8)


def emit_masked_load(builder, vector: ir.VectorType, pointer, mask, other=None):
    """Load an LLVM vector of floats or integers in the lanes of the mask; the memory of the others is not touched.

    These are the lanes of `other`, or 0.
    """
    other = ir.Constant(vector, None) if other is None else other
    pointer = builder.bitcast(pointer, vector.as_pointer())
    return _emit_masked(builder, "load", vector, vector, pointer, _alignment(vector), mask, other)


def emit_masked_store(builder, value, pointer, mask) -> None:
    """Store the lanes of the mask; the memory of the others is not touched."""
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    _emit_masked(builder, "store", value.type, ir.VoidType(), value, pointer, _alignment(value.type), mask)


def emit_load_between(builder, vector, pointer, low, high):
    """Load the lanes from `low` up to `high`; the others are 0 and their memory is not touched."""
    return emit_masked_load(builder, vector.llvm, pointer, emit_lane_mask(builder, vector.lanes, low, high))


def emit_store_between(builder, vector, value, pointer, low, high) -> None:
    """Store the lanes from `low` up to `high`; the memory of the others is not touched."""
    emit_masked_store(builder, value, pointer, emit_lane_mask(builder, vector.lanes, low, high))


# -------------------------------------------------------------------------------------------- the first `count` lanes


@intrinsic
def load_part(typing_context, array, index, count, other):
    """array[index : index + count] in the first lanes, those of `other` in the rest; memory beyond is not touched.

    For 0 <= count. One masked load; AVX2 needs a blend after it.
    """

    def codegen(context, builder, signature, args):
        array, index, count, rest = args
        pointer = pointer_to(context, builder, signature.args[0], array, index)
        return emit_masked_load(builder, other.llvm, pointer, emit_first_lanes(builder, other.lanes, count), rest)

    return other(array, types.intp, types.intp, other), codegen


@intrinsic
def store_part(typing_context, array, index, count, value):
    """array[index : index + count] = the first lanes of value, 0 <= count; memory beyond is not touched (masked)."""

    def codegen(context, builder, signature, args):
        array, index, count, lanes = args
        pointer = pointer_to(context, builder, signature.args[0], array, index)
        emit_masked_store(builder, lanes, pointer, emit_first_lanes(builder, value.lanes, count))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


@intrinsic
def blend(typing_context, count, first, rest):
    """The first `count` >= 0 lanes of one vector and the other lanes of another (vblendv, or a masked vmov)."""

    def codegen(context, builder, signature, args):
        number, low, high = args
        return builder.select(emit_first_lanes(builder, first.lanes, number), low, high)

    return first(types.intp, first, first), codegen


# --------------------------------------------------------------------- lanes between two bounds, of any size and sign


@intrinsic
def load_between(typing_context, array, index, low, high):
    """Vector of array[index + lane] for low <= lane < high, 0 in the other lanes (their memory is not touched).

    One masked load.
    """
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        return emit_load_between(builder, vector, pointer, *args[2:])

    return vector(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_between(typing_context, array, index, value, low, high):
    """array[index + lane] = value[lane] for low <= lane < high; the memory of the other lanes is not touched.

    One masked store.
    """

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        emit_store_between(builder, value, args[2], pointer, *args[3:])
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp, types.intp), codegen


def emit_even_lanes(builder, vector, first, masks):
    """Vector of every other value from the pointer `first` on, out of two loads, each under its mask."""
    pointers = (first, builder.gep(first, [INDEX(vector.lanes)]))
    halves = [
        emit_masked_load(builder, vector.llvm, pointer, mask) for pointer, mask in zip(pointers, masks, strict=True)
    ]
    return emit_shuffle(builder, *halves, list(range(0, 2 * vector.lanes, 2)))


@intrinsic
def load_even_between(typing_context, array, index, low, high):
    """Vector of array[index + 2 * lane] for low <= 2 * lane < high, 0 in the other lanes.

    Two masked loads of neighbours (array[index + k] with k < low or k >= high is not touched) and a vpermt2 or vshuf.
    """
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        array, index, low, high = args
        lanes = INDEX(vector.lanes)
        masks = (
            emit_lane_mask(builder, vector.lanes, low, high),
            emit_lane_mask(builder, vector.lanes, builder.sub(low, lanes), builder.sub(high, lanes)),
        )
        return emit_even_lanes(builder, vector, pointer_to(context, builder, signature.args[0], array, index), masks)

    return vector(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_interleaved(typing_context, array, index, even, odd, count):
    """array[index : index + count] = even[0], odd[0], even[1], odd[1], ..., at most 2 * lanes of them.

    Two vunpck or vpermt2 and two masked stores.
    """
    vector = even

    def codegen(context, builder, signature, args):
        array, index, even, odd, count = args
        first = pointer_to(context, builder, signature.args[0], array, index)
        order = [lane + side * vector.lanes for lane in range(vector.lanes) for side in (0, 1)]
        for half in (0, 1):
            value = emit_shuffle(builder, even, odd, order[half * vector.lanes : (half + 1) * vector.lanes])
            start = INDEX(half * vector.lanes)
            emit_store_between(builder, vector, value, builder.gep(first, [start]), INDEX(0), builder.sub(count, start))
        return context.get_dummy_value()

    return types.void(array, types.intp, even, odd, types.intp), codegen
