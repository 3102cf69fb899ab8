"""Register tiles: a block of rows x columns SIMD vectors that a kernel keeps in registers across its reduction loops.

LLVM does not vectorize an outer loop, so that a plain loop nest reloads its sums from memory at every step. A tuple of
vectors that is passed through small intrinsics stays in registers. The rules on arrays are those of `vectors`.
"""

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.lanes import emit_joined, emit_lane_sums, emit_load_between, emit_shuffle, emit_store_between
from nbnorm.simd.vectors import (
    INDEX,
    VectorType,
    emit_call,
    emit_load,
    emit_splat,
    emit_store,
    pointer_to,
    vector_of,
    zero_constant,
)

__all__ = ["Tile", "make_tile"]


class Tile(NamedTuple):
    """The operations on a tile `acc` of `rows` x `columns` vectors of `lanes` values; see `make_tile`."""

    rows: int
    columns: int
    zero: Any
    splat_rows: Any
    add_outer: Any
    add_outer_spaced: Any
    add_products: Any
    add_products_between: Any
    add_scaled: Any
    add_dots: Any
    add_dots_between: Any
    add_lane_sums: Any
    store_lane_sums: Any
    add_to: Any
    load_columns_between: Any
    store_columns: Any
    store_columns_between: Any
    offsets: Any

    def named(self, function: Any) -> Any:
        """Give a function that is defined anew for each tile a name of its own.

        Compiled code from the disk cache is linked by name: two tiles' functions of one name would be taken for one.
        """
        function.__qualname__ += f"_{self.rows}x{self.columns}"
        return function


@cache
def make_tile(rows: int, columns: int) -> Tile:
    """Make the intrinsics of a tile shape. They work for float32 and float64; arrays are one-dimensional.

    ====================================================  ============================================================
    `zero(array)`                                         a tile of zeros of the array's type
    `splat_rows(array, at)`                               acc[r, c] = array[at + r] in every lane
    `add_outer(acc, w, w_at, x, offsets, x_at)`           acc[r, c] += w[w_at + r] * x[offsets[c] + x_at :][:lanes]
    `add_outer_spaced(acc, w, w_at, pitch, x, x_at)`      acc[r, c] += w[w_at + r * pitch] * x[x_at + c * lanes :]
    `add_products(acc, a, a_at, b, offsets, b_at)`        acc[r, c] += a[a_at + r * lanes :] * b[offsets[c] + b_at :]
    `add_products_between(..., count)`                    the same for the first `count` lanes; reads no others of b
    `add_scaled(acc, vector, b, offsets, b_at)`           acc[r, c] += vector * b[offsets[c] + b_at :]
    `add_dots(acc, a, a_at, a_pitch, b, b_at, b_pitch)`   acc[r, c] += a[a_at + r * a_pitch :] * b[b_at + c * b_pitch :]
    `add_dots_between(..., count)`                        the same for the first `count` lanes; reads no others
    `add_lane_sums(acc, y, at)`                           y[at + r * columns + c] += sum of the lanes of acc[r, c];
                                                          as far as the next multiple of lanes, y is not kept
    `store_lane_sums(acc, b, b_at, b_pitch, y, at,        y[at + r * pitch + c] = b[b_at + r * b_pitch + c] + sum of the
    pitch)`                                               lanes of acc[r, c], for a power of 2 of columns
    `add_to(acc, y, at)`                                  y[at + (r * columns + c) * lanes :] += acc[r, c]
    `store_columns(acc, y, at, places, pitch)`            y[at + places[c] + r * pitch :] = acc[r, c]
    `store_columns_between(..., counts)`                  the same for the first counts[c] lanes of acc[r, c]
    `load_columns_between(y, at, places, pitch, counts)`  the reverse, with 0 in the other lanes
    `offsets(table, at)`                                  the tuple table[at], ..., table[at + columns - 1]
    ====================================================  ============================================================
    """
    size = rows * columns
    indices = types.UniTuple(types.intp, columns)

    def tile_of(array):
        return types.UniTuple(vector_of(array.dtype), size)

    def unpacked(builder, offsets):
        return [builder.extract_value(offsets, c) for c in range(columns)]

    @intrinsic
    def zero(typing_context, array):
        tile = tile_of(array)

        def codegen(context, builder, signature, args):
            return ir.Constant(context.get_value_type(tile), [zero_constant(tile.dtype)] * size)

        return tile(array), codegen

    @intrinsic
    def splat_rows(typing_context, array, at):
        tile = tile_of(array)

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            scalars = [builder.load(builder.gep(base, [INDEX(r)])) for r in range(rows)]
            vectors = [emit_splat(builder, tile.dtype, scalar) for scalar in scalars for _ in range(columns)]
            return context.make_tuple(builder, tile, vectors)

        return tile(array, types.intp), codegen

    @intrinsic
    def add_outer(typing_context, acc, w, w_at, x, offsets, x_at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, w, w_at, x, offsets, x_at = args
            w = pointer_to(context, builder, signature.args[1], w, w_at)
            # the offsets of a block of columns come first, so that these pointers stay the same across a loop over x_at
            firsts = [pointer_to(context, builder, signature.args[3], x, at) for at in unpacked(builder, offsets)]
            xs = [emit_load(builder, vector, builder.gep(first, [x_at])) for first in firsts]
            for r in range(rows):
                scalar = emit_splat(builder, vector, builder.load(builder.gep(w, [INDEX(r)])))
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, scalar, xs[c])
            return acc

        return acc(acc, w, types.intp, x, offsets, types.intp), codegen

    @intrinsic
    def add_outer_spaced(typing_context, acc, w, w_at, w_pitch, x, x_at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, w, w_at, w_pitch, x, x_at = args
            w = pointer_to(context, builder, signature.args[1], w, w_at)
            x = pointer_to(context, builder, signature.args[4], x, x_at)
            xs = [emit_load(builder, vector, builder.gep(x, [INDEX(c * vector.lanes)])) for c in range(columns)]
            for r in range(rows):
                scalar = builder.load(builder.gep(w, [builder.mul(w_pitch, INDEX(r))]))
                scalar = emit_splat(builder, vector, scalar)
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, scalar, xs[c])
            return acc

        return acc(acc, w, types.intp, types.intp, x, types.intp), codegen

    def products(vector, load_column):
        """Code of acc[r, c] += a row r * b column c, where load_column(builder, vector, pointer, *extra) reads b."""

        def codegen(context, builder, signature, args):
            acc, a, a_at, b, offsets, b_at, *extra = args
            a = pointer_to(context, builder, signature.args[1], a, a_at)
            firsts = [pointer_to(context, builder, signature.args[3], b, at) for at in unpacked(builder, offsets)]
            values = [load_column(builder, vector, builder.gep(first, [b_at]), *extra) for first in firsts]
            for r in range(rows):
                head = emit_load(builder, vector, builder.gep(a, [INDEX(r * vector.lanes)]))
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, head, values[c])
            return acc

        return codegen

    @intrinsic
    def add_products(typing_context, acc, a, a_at, b, offsets, b_at):
        return acc(acc, a, types.intp, b, offsets, types.intp), products(acc.dtype, emit_load)

    @intrinsic
    def add_products_between(typing_context, acc, a, a_at, b, offsets, b_at, count):
        def load_first(builder, vector, pointer, count):
            return emit_load_between(builder, vector, pointer, INDEX(0), count)

        return acc(acc, a, types.intp, b, offsets, types.intp, types.intp), products(acc.dtype, load_first)

    @intrinsic
    def add_scaled(typing_context, acc, factor, b, offsets, b_at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, factor, b, offsets, b_at = args
            firsts = [pointer_to(context, builder, signature.args[2], b, at) for at in unpacked(builder, offsets)]
            values = [emit_load(builder, vector, builder.gep(first, [b_at])) for first in firsts]
            for index in range(size):
                acc = _add_product(builder, vector, acc, index, factor, values[index % columns])
            return acc

        return acc(acc, factor, b, offsets, types.intp), codegen

    def dots(load):
        """Code of acc[r, c] += row r of a * row c of b, where load(builder, vector, pointer, *extra) reads both."""

        def codegen(context, builder, signature, args):
            acc, a, a_at, a_pitch, b, b_at, b_pitch, *extra = args
            vector = signature.return_type.dtype
            sides = []
            for array, kind, at, pitch, count in (
                (a, signature.args[1], a_at, a_pitch, rows),
                (b, signature.args[4], b_at, b_pitch, columns),
            ):
                first = pointer_to(context, builder, kind, array, at)
                places = [builder.gep(first, [builder.mul(pitch, INDEX(k))]) for k in range(count)]
                sides.append([load(builder, vector, place, *extra) for place in places])
            for r in range(rows):
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, sides[0][r], sides[1][c])
            return acc

        return codegen

    @intrinsic
    def add_dots(typing_context, acc, a, a_at, a_pitch, b, b_at, b_pitch):
        index = types.intp
        return acc(acc, a, index, index, b, index, index), dots(emit_load)

    @intrinsic
    def add_dots_between(typing_context, acc, a, a_at, a_pitch, b, b_at, b_pitch, count):
        def load_first(builder, vector, pointer, count):
            return emit_load_between(builder, vector, pointer, INDEX(0), count)

        index = types.intp
        return acc(acc, a, index, index, b, index, index, index), dots(load_first)

    @intrinsic
    def add_lane_sums(typing_context, acc, y, at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[1], *args[1:])
            values = [builder.extract_value(args[0], i) for i in range(size)]
            for first in range(0, size, vector.lanes):
                place = builder.gep(base, [INDEX(first)])
                total = emit_lane_sums(builder, vector, values[first : first + vector.lanes])
                emit_store(builder, vector, builder.fadd(emit_load(builder, vector, place), total), place)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp), codegen

    @intrinsic
    def store_lane_sums(typing_context, acc, b, b_at, b_pitch, y, at, pitch):
        vector, part = acc.dtype, VectorType(acc.dtype.scalar, columns)

        def codegen(context, builder, signature, args):
            acc, b, b_at, b_pitch, y, at, pitch = args
            base = pointer_to(context, builder, signature.args[1], b, b_at)
            target = pointer_to(context, builder, signature.args[4], y, at)
            values = [builder.extract_value(acc, i) for i in range(size)]
            step = max(vector.lanes, columns)
            for first in range(0, size, step):
                totals = [
                    emit_lane_sums(builder, vector, values[i : i + vector.lanes])
                    for i in range(first, min(first + step, size), vector.lanes)
                ]
                total = emit_joined(builder, totals)
                for r in range(first // columns, min(first + step, size) // columns):
                    lanes = list(range(r * columns - first, (r + 1) * columns - first))
                    row = emit_shuffle(builder, total, total, lanes)
                    before = emit_load(builder, part, builder.gep(base, [builder.mul(b_pitch, INDEX(r))]))
                    place = builder.gep(target, [builder.mul(pitch, INDEX(r))])
                    emit_store(builder, part, builder.fadd(before, row), place)
            return context.get_dummy_value()

        index = types.intp
        return types.void(acc, b, index, index, y, index, index), codegen

    @intrinsic
    def add_to(typing_context, acc, y, at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[1], *args[1:])
            for i in range(size):
                place = builder.gep(base, [INDEX(i * vector.lanes)])
                total = builder.fadd(emit_load(builder, vector, place), builder.extract_value(args[0], i))
                emit_store(builder, vector, total, place)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp), codegen

    def stores(emit):
        """Code that stores acc[r, c] at y[at + places[c] + r * pitch], where emit(builder, c, value, place, *extra)."""

        def codegen(context, builder, signature, args):
            acc, y, at, places, pitch, *extra = args
            base = pointer_to(context, builder, signature.args[1], y, at)
            firsts = [builder.gep(base, [place]) for place in unpacked(builder, places)]
            for r in range(rows):
                for c in range(columns):
                    place = builder.gep(firsts[c], [builder.mul(pitch, INDEX(r))])
                    emit(builder, c, builder.extract_value(acc, r * columns + c), place, *extra)
            return context.get_dummy_value()

        return codegen

    @intrinsic
    def load_columns_between(typing_context, array, at, places, pitch, counts):
        tile = tile_of(array)

        def codegen(context, builder, signature, args):
            array, at, places, pitch, counts = args
            base = pointer_to(context, builder, signature.args[0], array, at)
            firsts = [builder.gep(base, [place]) for place in unpacked(builder, places)]
            values = []
            for r in range(rows):
                for first, count in zip(firsts, unpacked(builder, counts), strict=True):
                    place = builder.gep(first, [builder.mul(pitch, INDEX(r))])
                    values.append(emit_load_between(builder, tile.dtype, place, INDEX(0), count))
            return context.make_tuple(builder, tile, values)

        return tile(array, types.intp, indices, types.intp, indices), codegen

    @intrinsic
    def store_columns(typing_context, acc, y, at, places, pitch):
        def emit(builder, c, value, place):
            emit_store(builder, acc.dtype, value, place)

        return types.void(acc, y, types.intp, places, types.intp), stores(emit)

    @intrinsic
    def store_columns_between(typing_context, acc, y, at, places, pitch, counts):
        def emit(builder, c, value, place, counts):
            emit_store_between(builder, acc.dtype, value, place, INDEX(0), builder.extract_value(counts, c))

        return types.void(acc, y, types.intp, places, types.intp, counts), stores(emit)

    @intrinsic
    def offsets(typing_context, table, at):
        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            places = [builder.gep(base, [INDEX(c)]) for c in range(columns)]
            return context.make_tuple(builder, indices, [builder.load(place) for place in places])

        return indices(table, types.intp), codegen

    return Tile(
        rows, columns, zero, splat_rows, add_outer, add_outer_spaced, add_products, add_products_between,
        add_scaled, add_dots, add_dots_between, add_lane_sums, store_lane_sums, add_to,
        load_columns_between, store_columns, store_columns_between, offsets,
    )  # fmt: skip


def _add_product(builder, vector, acc, index, a, b):
    value = emit_call(builder, vector, "llvm.fma", a, b, builder.extract_value(acc, index))
    return builder.insert_value(acc, value, index)
