"""Transposition of squares of `lanes` x `lanes` values on their way from one array to another (vinsert, vunpck, vshuf).

The rules on arrays are those of `vectors`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_load_between, emit_store_between
from nbnorm.simd.shuffles import emit_joined, emit_transposed
from nbnorm.simd.vectors import INDEX, emit_call, emit_store, pointer_to, vector_of

__all__ = ["scatter_transposed", "store_transposed", "store_transposed_rows"]

# Values that one load of a transposition reads, 4 of float32 being the 16 bytes that a processor can put into any
# quarter of a register while it loads. More leaves more to be moved in registers, fewer makes more loads.
_PIECE = 4


def _load_transposed(builder, vector, rows):
    """Vectors of the columns of the square whose rows are at the pointers `rows`.

    A vector takes `_PIECE` values of every `_PIECE`-th row, so that only the squares within its pieces are left to be
    transposed in registers: most of the movement is done by the loads, which another part of the processor executes.
    All pieces of a row are read one after the other: rows may push each other out of the level 1 cache.
    """
    piece = ir.VectorType(vector.llvm.element, min(_PIECE, vector.lanes))
    size, step = vector.lanes, piece.count
    values = {}
    for r in range(step):
        for first in range(0, size, step):
            parts = []
            for row in rows[r::step]:
                place = builder.bitcast(builder.gep(row, [INDEX(first)]), piece.as_pointer())
                part = builder.load(place)
                part.align = vector.scalar.bitwidth // 8
                parts.append(part)
            values[first, r] = emit_joined(builder, parts)
    columns = []
    for first in range(0, size, step):
        columns += emit_transposed(builder, [values[first, r] for r in range(step)])
    return columns


def _clamped_rows(builder, first, pitch, rows, lanes):
    """Pointers to `lanes` rows, the last of the `rows` that exist again and again beyond their end."""
    last = builder.sub(rows, INDEX(1))
    result = []
    for r in range(lanes):
        row = builder.select(builder.icmp_signed("<", INDEX(r), rows), INDEX(r), last)
        result.append(builder.gep(first, [builder.mul(pitch, row)]))
    return result


@intrinsic
def scatter_transposed(typing_context, source, at, pitch, rows, factors, target, to, places, places_at):
    """target[to + places[places_at + i] + r] = source[at + r * pitch + i], normalized, for r < lanes, i < lanes.

    factors: four vectors with a lane for each row, of x -> max((x - factors[0]) * factors[1] + factors[2], factors[3]),
    where a NaN in the last one is no limit; or None, which changes no value. Of the source only the first `rows` rows
    are read: what belongs to the others is made from the values of the last one.
    """
    vector = vector_of(source.dtype)

    def codegen(context, builder, signature, args):
        source, at, pitch, rows, factors, target, to, places, places_at = args
        normalizes = signature.args[4] != types.none
        center, scale, shift, floor = (builder.extract_value(factors, i) if normalizes else None for i in range(4))
        first = pointer_to(context, builder, signature.args[0], source, at)
        result = pointer_to(context, builder, signature.args[5], target, to)
        table = pointer_to(context, builder, signature.args[7], places, places_at)
        columns = _load_transposed(builder, vector, _clamped_rows(builder, first, pitch, rows, vector.lanes))
        for i, value in enumerate(columns):
            if normalizes:
                value = emit_call(builder, vector, "llvm.fma", builder.fsub(value, center), scale, shift)
                value = builder.select(builder.fcmp_ordered(">", floor, value), floor, value)
            place = builder.load(builder.gep(table, [INDEX(i)]))
            emit_store(builder, vector, value, builder.gep(result, [place]))
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, index, factors, target, index, places, index), codegen


@intrinsic
def store_transposed_rows(typing_context, source, at, target, to, pitch, rows):
    """target[to + r * pitch + i] = source[at + i * lanes + r] for r < rows, i < lanes; 1 <= rows <= lanes."""
    vector = vector_of(source.dtype)

    def codegen(context, builder, signature, args):
        source, at, target, to, pitch, rows = args
        first = pointer_to(context, builder, signature.args[0], source, at)
        result = pointer_to(context, builder, signature.args[2], target, to)
        pixels = [builder.gep(first, [INDEX(i * vector.lanes)]) for i in range(vector.lanes)]
        places = _clamped_rows(builder, result, pitch, rows, vector.lanes)
        for value, place in reversed(list(zip(_load_transposed(builder, vector, pixels), places, strict=True))):
            emit_store(builder, vector, value, place)  # the last row that exists is written last, with its own values
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, target, index, index, index), codegen


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
