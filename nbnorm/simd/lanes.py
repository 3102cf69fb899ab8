"""Loads and stores of part of a vector, and movements between lanes. The rules on arrays are those of `vectors`."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbnorm.simd.vectors import INDEX, pointer_to, vector_of, zero_constant

__all__ = [
    "emit_joined", "emit_lane_mask", "emit_lane_sums", "emit_load_between", "emit_shuffle", "emit_store_between",
    "emit_transposed", "item", "load_between", "load_bits", "load_even_between", "load_even_bits", "prefetch",
    "prefetch_for_store", "prefetch_nearest", "store_between", "store_bits", "store_interleaved", "store_item",
    "store_transposed", "sum_lanes",
]  # fmt: skip

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


def _emit_masked_load(builder, vector, pointer, mask):
    place = builder.bitcast(pointer, vector.llvm.as_pointer())
    align = _INT32(vector.scalar.bitwidth // 8)
    return _masked(builder, vector, "load", vector.llvm, place, align, mask, zero_constant(vector))


def emit_load_between(builder, vector, pointer, low, high):
    """Load the lanes from `low` up to `high`; the others are 0 and their memory is not touched."""
    return _emit_masked_load(builder, vector, pointer, emit_lane_mask(builder, vector, low, high))


def emit_store_between(builder, vector, value, pointer, low, high) -> None:
    """Store the lanes from `low` up to `high`; the memory of the others is not touched."""
    place = builder.bitcast(pointer, vector.llvm.as_pointer())
    align = _INT32(vector.scalar.bitwidth // 8)
    _masked(builder, vector, "store", ir.VoidType(), value, place, align, emit_lane_mask(builder, vector, low, high))


def emit_shuffle(builder, a, b, lanes):
    """Vector of these lanes of a and b, one behind the other."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def emit_joined(builder, parts):
    """One vector of the lanes of all parts, in their order; as many parts as a power of 2."""
    while len(parts) > 1:
        every = list(range(2 * parts[0].type.count))
        parts = [emit_shuffle(builder, a, b, every) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


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
            None if a is None else builder.fadd(emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high))
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
def store_item(typing_context, array, index, value):
    """array[index] = value, for an index that is not negative and a value of the array's type."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], pointer_to(context, builder, signature.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def _prefetching(write: int, locality: int):
    """An intrinsic on array, index: asks for the cache line of array[index], which may lie outside of the array."""

    @intrinsic
    def operation(typing_context, array, index):
        def codegen(context, builder, signature, args):
            byte = ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            pointer = builder.bitcast(pointer_to(context, builder, signature.args[0], *args), byte)
            builder.call(function, [pointer, _INT32(write), _INT32(locality), _INT32(1)])  # of data
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return operation


prefetch = _prefetching(0, 2)  # into the level 2 cache
prefetch_nearest = _prefetching(0, 3)  # into the level 1 cache
prefetch_for_store = _prefetching(1, 3)  # in order to write it


@intrinsic
def load_between(typing_context, array, index, low, high):
    """Vector of array[index + lane] for low <= lane < high, 0 in the other lanes (their memory is not touched)."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        return emit_load_between(builder, vector, pointer, *args[2:])

    return vector(array, types.intp, types.intp, types.intp), codegen


def _bit_mask(builder, vector, bits):
    """One bit a lane: the lowest of a 64-bit integer."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(vector.lanes)), ir.VectorType(_BIT, vector.lanes))


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
        return emit_shuffle(builder, *parts, list(range(0, 2 * vector.lanes, 2)))

    return vector(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def load_bits(typing_context, array, index, bits):
    """Vector of array[index + lane] where that bit is set, 0 in the other lanes (their memory is not touched)."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        return _emit_masked_load(builder, vector, pointer, _bit_mask(builder, vector, args[2]))

    return vector(array, types.intp, types.int64), codegen


@intrinsic
def load_even_bits(typing_context, array, index, bits):
    """Vector of array[index + 2 * lane] where bit 2 * lane is set; memory whose bit is not set is not touched."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        array, index, bits = args
        first = pointer_to(context, builder, signature.args[0], array, index)
        high = builder.lshr(bits, INDEX(vector.lanes))
        parts = [
            _emit_masked_load(builder, vector, first, _bit_mask(builder, vector, bits)),
            _emit_masked_load(
                builder, vector, builder.gep(first, [INDEX(vector.lanes)]), _bit_mask(builder, vector, high)
            ),
        ]
        return emit_shuffle(builder, *parts, list(range(0, 2 * vector.lanes, 2)))

    return vector(array, types.intp, types.int64), codegen


@intrinsic
def store_bits(typing_context, array, index, value, bits):
    """array[index + lane] = value[lane] where that bit is set; the memory of the other lanes is not touched."""

    def codegen(context, builder, signature, args):
        pointer = builder.bitcast(pointer_to(context, builder, signature.args[0], *args[:2]), value.llvm.as_pointer())
        align = _INT32(value.scalar.bitwidth // 8)
        mask = _bit_mask(builder, value, args[3])
        _masked(builder, value, "store", ir.VoidType(), args[2], pointer, align, mask)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.int64), codegen


@intrinsic
def store_between(typing_context, array, index, value, low, high):
    """array[index + lane] = value[lane] for low <= lane < high; the memory of the other lanes is not touched."""

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args[:2])
        emit_store_between(builder, value, args[2], pointer, *args[3:])
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp, types.intp), codegen


@intrinsic
def store_interleaved(typing_context, array, index, even, odd, count):
    """array[index : index + count] = even[0], odd[0], even[1], odd[1], ..., at most 2 * lanes of them."""
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


def emit_transposed(builder, vectors):
    """Transpose the squares of as many lanes as there are vectors: at each level, halves of blocks change places."""
    size, width, vectors = vectors[0].type.count, len(vectors) // 2, list(vectors)
    while width:
        low = [lane if lane & width == 0 else size + lane - width for lane in range(size)]
        high = [lane + width if lane & width == 0 else size + lane for lane in range(size)]
        for i in range(len(vectors)):
            if i & width == 0:
                a, b = vectors[i], vectors[i + width]
                vectors[i], vectors[i + width] = emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high)
        width //= 2
    return vectors


@intrinsic
def store_transposed(typing_context, source, at, pitch, rows, count, target, to, places, places_at):
    """target[to + places[places_at + i] + r] = source[at + r * pitch + i] for r < rows, i < count, from 1 to lanes."""
    vector = vector_of(source.dtype)

    def codegen(context, builder, signature, args):
        source, at, pitch, rows, count, target, to, places, places_at = args
        first = pointer_to(context, builder, signature.args[0], source, at)
        result = pointer_to(context, builder, signature.args[5], target, to)
        table = pointer_to(context, builder, signature.args[7], places, places_at)

        def at_most(number, size):  # what lies beyond is read or written twice
            number = INDEX(number)
            return builder.select(builder.icmp_signed("<", number, size), number, builder.sub(size, INDEX(1)))

        vectors = []
        for r in range(vector.lanes):
            row = builder.gep(first, [builder.mul(pitch, at_most(r, rows))])
            vectors.append(emit_load_between(builder, vector, row, INDEX(0), count))
        vectors = emit_transposed(builder, vectors)
        for i in reversed(range(vector.lanes)):  # so that the last pixel is written last where several share a place
            place = builder.load(builder.gep(table, [at_most(i, count)]))
            emit_store_between(builder, vector, vectors[i], builder.gep(result, [place]), INDEX(0), rows)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, index, index, target, index, places, index), codegen


@intrinsic
def sum_lanes(typing_context, value):
    """Sum of the lanes of a vector, in the order of a binary tree."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(emit_lane_sums(builder, value, [args[0]]), _INT32(0))

    return value.scalar(value), codegen
