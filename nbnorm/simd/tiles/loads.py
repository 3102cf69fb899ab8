"""What a register tile begins with: zeros, one value in all lanes, or what memory has; and offsets of its columns."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_load_between
from nbnorm.simd.vectors import INDEX, emit_splat, pointer_to, vector_of, zero_constant

__all__ = ["emit_unpacked", "make_load_columns_between", "make_offsets", "make_splat_rows", "make_zero"]


def emit_unpacked(builder, values):
    """List of the elements of a tuple of one type."""
    return [builder.extract_value(values, i) for i in range(values.type.count)]


def _tile_of(array, rows: int, columns: int):
    return types.UniTuple(vector_of(array.dtype), rows * columns)


def make_zero(rows: int, columns: int):
    """`zero(array)`: a tile of zeros of the array's type (vxor)."""

    @intrinsic
    def zero(typing_context, array):
        tile = _tile_of(array, rows, columns)

        def codegen(context, builder, signature, args):
            return ir.Constant(context.get_value_type(tile), [zero_constant(tile.dtype)] * (rows * columns))

        return tile(array), codegen

    return zero


def make_splat_rows(rows: int, columns: int):
    """`splat_rows(array, first)`: acc[r, c] = array[first + r] in every lane (vbroadcast)."""

    @intrinsic
    def splat_rows(typing_context, array, first):
        tile = _tile_of(array, rows, columns)

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            scalars = [builder.load(builder.gep(base, [INDEX(r)])) for r in range(rows)]
            vectors = [emit_splat(builder, tile.dtype.llvm, scalar) for scalar in scalars for _ in range(columns)]
            return context.make_tuple(builder, tile, vectors)

        return tile(array, types.intp), codegen

    return splat_rows


def make_load_columns_between(rows: int, columns: int):
    """`load_columns_between(y, y_first, y_columns, pitch, counts)`: what `store_columns_between` stores (masked vmovu).

    acc[r, c] = the first counts[c] lanes of y[y_first + y_columns[c] + r * pitch :], with 0 in the others.
    """
    indices = types.UniTuple(types.intp, columns)

    @intrinsic
    def load_columns_between(typing_context, y, y_first, y_columns, pitch, counts):
        tile = _tile_of(y, rows, columns)

        def codegen(context, builder, signature, args):
            y, y_first, y_columns, pitch, counts = args
            base = pointer_to(context, builder, signature.args[0], y, y_first)
            firsts = [builder.gep(base, [offset]) for offset in emit_unpacked(builder, y_columns)]
            values = []
            for r in range(rows):
                for first, count in zip(firsts, emit_unpacked(builder, counts), strict=True):
                    pointer = builder.gep(first, [builder.mul(pitch, INDEX(r))])
                    values.append(emit_load_between(builder, tile.dtype, pointer, INDEX(0), count))
            return context.make_tuple(builder, tile, values)

        return tile(y, types.intp, indices, types.intp, indices), codegen

    return load_columns_between


def make_offsets(columns: int):
    """`offsets(table, first)`: the tuple table[first], ..., table[first + columns - 1] (mov)."""
    indices = types.UniTuple(types.intp, columns)

    @intrinsic
    def offsets(typing_context, table, first):
        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[0], *args)
            pointers = [builder.gep(base, [INDEX(c)]) for c in range(columns)]
            return context.make_tuple(builder, indices, [builder.load(pointer) for pointer in pointers])

        return indices(table, types.intp), codegen

    return offsets
