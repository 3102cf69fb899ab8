"""Loads and stores of part of a vector, and movements between lanes. The rules on arrays are those of `vectors`."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbnorm.simd.vectors import INDEX, emit_store, pointer_to, vector_of, zero_constant

__all__ = ["item", "load_between", "load_even_between", "store_interleaved", "sum_lanes"]

_BIT, _INT32 = ir.IntType(1), ir.IntType(32)


def emit_lane_mask(builder, vector, low, high):
    """One bit a lane: low <= lane < high, of 64-bit bounds of any size and sign."""
    lanes = ir.VectorType(_INT32, vector.lanes)
    undefined = ir.Constant(lanes, ir.Undefined)
    numbers = ir.Constant(lanes, list(range(vector.lanes)))

    def splat(bound):
        below = builder.select(builder.icmp_signed("<", bound, INDEX(0)), INDEX(0), bound)
        most = INDEX(vector.lanes)
        clipped = builder.trunc(builder.select(builder.icmp_signed(">", below, most), most, below), _INT32)
        one = builder.insert_element(undefined, clipped, _INT32(0))
        return builder.shuffle_vector(one, undefined, ir.Constant(lanes, [0] * vector.lanes))

    return builder.and_(builder.icmp_signed(">=", numbers, splat(low)), builder.icmp_signed("<", numbers, splat(high)))


def _masked(builder, vector, name, result, *args):
    signature = ir.FunctionType(result, [arg.type for arg in args])
    name = f"llvm.masked.{name}.{vector.suffix}.p0{vector.suffix}"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def emit_load_between(builder, vector, pointer, low, high):
    """Load the lanes from `low` up to `high`; the others are 0 and their memory is not touched."""
    place = builder.bitcast(pointer, vector.llvm.as_pointer())
    align = _INT32(vector.scalar.bitwidth // 8)
    mask = emit_lane_mask(builder, vector, low, high)
    return _masked(builder, vector, "load", vector.llvm, place, align, mask, zero_constant(vector))


def emit_store_between(builder, vector, value, pointer, low, high) -> None:
    """Store the lanes from `low` up to `high`; the memory of the others is not touched."""
    place = builder.bitcast(pointer, vector.llvm.as_pointer())
    align = _INT32(vector.scalar.bitwidth // 8)
    _masked(builder, vector, "store", ir.VoidType(), value, place, align, emit_lane_mask(builder, vector, low, high))


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def emit_lane_sums(builder, vector, values):
    """Vector whose lane i is the sum of the lanes of values[i], each as a binary tree; at most as many as lanes.

    Two vectors become one at each level, in which half of the lanes go on with the sums of either.
    """
    width = vector.lanes
    values = [*values, *[None] * (width - len(values))]
    while width > 1:
        width //= 2
        low, high = [], []
        for lane in range(vector.lanes):
            own = lane & width == 0
            low.append(lane if own else vector.lanes + lane - width)
            high.append(lane + width if own else vector.lanes + lane)
        pairs = [(a, a if b is None else b) for a, b in zip(values[:width], values[width:], strict=True)]
        values = [
            None if a is None else builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))
            for a, b in pairs
        ]
    return values[0]


@intrinsic
def item(typing_context, array, index):
    """array[index] of an index that is not negative: `array[index]` spends four instructions on the chance."""

    def codegen(context, builder, signature, args):
        return builder.load(pointer_to(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), codegen


@intrinsic
def load_between(typing_context, array, index, low, high):
    """Vector of array[index + lane] for low <= lane < high, 0 in the other lanes (their memory is not touched)."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        return emit_load_between(builder, vector, pointer, *args[2:])

    return vector(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def load_even_between(typing_context, array, index, low, high):
    """Vector of array[index + 2 * lane] for low <= 2 * lane < high, 0 in the other lanes."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        array, index, low, high = args
        first = pointer_to(context, builder, signature.args[0], array, index)
        lanes = INDEX(vector.lanes)
        parts = [
            emit_load_between(builder, vector, first, low, high),
            emit_load_between(
                builder, vector, builder.gep(first, [lanes]), builder.sub(low, lanes), builder.sub(high, lanes)
            ),
        ]
        return _shuffle(builder, *parts, list(range(0, 2 * vector.lanes, 2)))

    return vector(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_interleaved(typing_context, array, index, even, odd):
    """array[index : index + 2 * lanes] = even[0], odd[0], even[1], odd[1], ..."""
    vector = even

    def codegen(context, builder, signature, args):
        array, index, even, odd = args
        first = pointer_to(context, builder, signature.args[0], array, index)
        order = [lane + side * vector.lanes for lane in range(vector.lanes) for side in (0, 1)]
        for half in (0, 1):
            value = _shuffle(builder, even, odd, order[half * vector.lanes : (half + 1) * vector.lanes])
            emit_store(builder, vector, value, builder.gep(first, [INDEX(half * vector.lanes)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, even, odd), codegen


@intrinsic
def sum_lanes(typing_context, value):
    """Sum of the lanes of a vector, in the order of a binary tree."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(emit_lane_sums(builder, value, [args[0]]), _INT32(0))

    return value.scalar(value), codegen
