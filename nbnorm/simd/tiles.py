"""Register tiles: a block of rows x columns SIMD vectors that a kernel keeps in registers across its reduction loops.

LLVM does not vectorize an outer loop, so that a plain loop nest reloads its sums from memory at every step. A tuple of
vectors that is passed through small intrinsics stays in registers. The rules on arrays are those of `vectors`.
"""

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.lanes import emit_load_between, emit_store_between
from nbnorm.simd.vectors import (
    INDEX,
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
    add_products: Any
    add_products_between: Any
    load: Any
    store: Any
    store_between: Any
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
    `add_outer(acc, w, w_at, x, x_at)`                    acc[r, c] += w[w_at + r] * x[x_at + c * lanes :][:lanes]
    `add_products(acc, a, a_at, b, b_at, offsets)`        acc[r, c] += a[a_at + r * lanes :] * b[b_at + offsets[c] :]
    `add_products_between(..., count)`                    the same for the first `count` lanes; reads no others of b
    `load(array, at)`                                     acc[r, c] = array[at + (r * columns + c) * lanes :]
    `store(acc, y, at, pitch)`                            y[at + r * pitch + c * lanes :] = acc[r, c]
    `store_between(acc, y, at, pitch, count)`             the same for the first `count` values of every row
    `offsets(table, at)`                                  the tuple table[at : at + columns]
    ====================================================  ============================================================
    """
    size = rows * columns

    def tile_of(array):
        return types.UniTuple(vector_of(array.dtype), size)

    def pointers(builder, base, pitch):
        return [builder.gep(base, [builder.mul(pitch, INDEX(r))]) for r in range(rows)]

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
    def add_outer(typing_context, acc, w, w_at, x, x_at):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, w, w_at, x, x_at = args
            w = pointer_to(context, builder, signature.args[1], w, w_at)
            x = pointer_to(context, builder, signature.args[3], x, x_at)
            xs = [emit_load(builder, vector, builder.gep(x, [INDEX(c * vector.lanes)])) for c in range(columns)]
            for r in range(rows):
                scalar = emit_splat(builder, vector, builder.load(builder.gep(w, [INDEX(r)])))
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, scalar, xs[c])
            return acc

        return acc(acc, w, types.intp, x, types.intp), codegen

    def products(vector, load_column):
        """Code of acc[r, c] += a row r * b column c, where load_column(builder, vector, pointer, *extra) reads b."""

        def codegen(context, builder, signature, args):
            acc, a, a_at, b, b_at, offsets, *extra = args
            a = pointer_to(context, builder, signature.args[1], a, a_at)
            b = pointer_to(context, builder, signature.args[3], b, b_at)
            places = [builder.gep(b, [builder.extract_value(offsets, c)]) for c in range(columns)]
            values = [load_column(builder, vector, place, *extra) for place in places]
            for r in range(rows):
                head = emit_load(builder, vector, builder.gep(a, [INDEX(r * vector.lanes)]))
                for c in range(columns):
                    acc = _add_product(builder, vector, acc, r * columns + c, head, values[c])
            return acc

        return codegen

    @intrinsic
    def add_products(typing_context, acc, a, a_at, b, b_at, offsets):
        return acc(acc, a, types.intp, b, types.intp, offsets), products(acc.dtype, emit_load)

    @intrinsic
    def add_products_between(typing_context, acc, a, a_at, b, b_at, offsets, count):
        def load_first(builder, vector, pointer, count):
            return emit_load_between(builder, vector, pointer, INDEX(0), count)

        return acc(acc, a, types.intp, b, types.intp, offsets, types.intp), products(acc.dtype, load_first)

    @intrinsic
    def load(typing_context, array, at):
        tile = tile_of(array)
        vector = tile.dtype

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            places = [builder.gep(base, [INDEX(i * vector.lanes)]) for i in range(size)]
            return context.make_tuple(builder, tile, [emit_load(builder, vector, place) for place in places])

        return tile(array, types.intp), codegen

    @intrinsic
    def store(typing_context, acc, y, at, pitch):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, y, at, pitch = args
            base = pointer_to(context, builder, signature.args[1], y, at)
            for r, row in enumerate(pointers(builder, base, pitch)):
                for c in range(columns):
                    place = builder.gep(row, [INDEX(c * vector.lanes)])
                    emit_store(builder, vector, builder.extract_value(acc, r * columns + c), place)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp, types.intp), codegen

    @intrinsic
    def store_between(typing_context, acc, y, at, pitch, count):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, y, at, pitch, count = args
            base = pointer_to(context, builder, signature.args[1], y, at)
            for r, row in enumerate(pointers(builder, base, pitch)):
                for c in range(columns):
                    place = builder.gep(row, [INDEX(c * vector.lanes)])
                    left = builder.sub(count, INDEX(c * vector.lanes))
                    value = builder.extract_value(acc, r * columns + c)
                    emit_store_between(builder, vector, value, place, INDEX(0), left)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp, types.intp, types.intp), codegen

    @intrinsic
    def offsets(typing_context, table, at):
        result = types.UniTuple(types.intp, columns)

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            places = [builder.gep(base, [INDEX(c)]) for c in range(columns)]
            return context.make_tuple(builder, result, [builder.load(place) for place in places])

        return result(table, types.intp), codegen

    return Tile(
        rows, columns, zero, splat_rows, add_outer, add_products, add_products_between, load, store, store_between,
        offsets,
    )  # fmt: skip


def _add_product(builder, vector, acc, index, a, b):
    value = emit_call(builder, vector, "llvm.fma", a, b, builder.extract_value(acc, index))
    return builder.insert_value(acc, value, index)
