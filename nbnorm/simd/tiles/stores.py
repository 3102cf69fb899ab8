"""Where a register tile goes in the end: sums over its lanes, or its vectors."""

from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_store_between
from nbnorm.simd.shuffles import emit_joined, emit_lane_sums, emit_shuffle
from nbnorm.simd.tiles.loads import emit_unpacked
from nbnorm.simd.vectors import INDEX, VectorType, emit_load, emit_store, pointer_to

__all__ = ["make_add_lane_sums", "make_add_to", "make_store_columns", "make_store_lane_sums"]


def make_add_lane_sums(rows: int, columns: int):
    """`add_lane_sums(acc, y, first)`: y[first + r * columns + c] += sum of the lanes of acc[r, c] (vshuf, vadd).

    As far as the next multiple of lanes, y is not kept.
    """
    size = rows * columns

    @intrinsic
    def add_lane_sums(typing_context, acc, y, first):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[1], *args[1:])
            values = emit_unpacked(builder, args[0])
            for i in range(0, size, vector.lanes):
                pointer = builder.gep(base, [INDEX(i)])
                total = emit_lane_sums(builder, vector, values[i : i + vector.lanes])
                emit_store(builder, vector, builder.fadd(emit_load(builder, vector, pointer), total), pointer)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp), codegen

    return add_lane_sums


def make_store_lane_sums(rows: int, columns: int):
    """`store_lane_sums(acc, b, b_first, b_pitch, y, y_first, y_pitch)`, for a power of 2 of columns (vshuf, vadd).

    y[y_first + r * y_pitch + c] = b[b_first + r * b_pitch + c] + sum of the lanes of acc[r, c].
    """
    size = rows * columns

    @intrinsic
    def store_lane_sums(typing_context, acc, b, b_first, b_pitch, y, y_first, y_pitch):
        vector, narrow = acc.dtype, VectorType(acc.dtype.scalar, columns)

        def codegen(context, builder, signature, args):
            acc, b, b_first, b_pitch, y, y_first, y_pitch = args
            base = pointer_to(context, builder, signature.args[1], b, b_first)
            target = pointer_to(context, builder, signature.args[4], y, y_first)
            values = emit_unpacked(builder, acc)
            block = max(vector.lanes, columns)
            for first in range(0, size, block):
                totals = [
                    emit_lane_sums(builder, vector, values[i : i + vector.lanes])
                    for i in range(first, min(first + block, size), vector.lanes)
                ]
                total = emit_joined(builder, totals)
                for r in range(first // columns, min(first + block, size) // columns):
                    lanes = list(range(r * columns - first, (r + 1) * columns - first))
                    row = emit_shuffle(builder, total, total, lanes)
                    before = emit_load(builder, narrow, builder.gep(base, [builder.mul(b_pitch, INDEX(r))]))
                    pointer = builder.gep(target, [builder.mul(y_pitch, INDEX(r))])
                    emit_store(builder, narrow, builder.fadd(before, row), pointer)
            return context.get_dummy_value()

        index = types.intp
        return types.void(acc, b, index, index, y, index, index), codegen

    return store_lane_sums


def make_add_to(rows: int, columns: int):
    """`add_to(acc, y, first)`: y[first + (r * columns + c) * lanes :] += acc[r, c] (vadd, vmovu)."""

    @intrinsic
    def add_to(typing_context, acc, y, first):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            base = pointer_to(context, builder, signature.args[1], *args[1:])
            for i in range(rows * columns):
                pointer = builder.gep(base, [INDEX(i * vector.lanes)])
                total = builder.fadd(emit_load(builder, vector, pointer), builder.extract_value(args[0], i))
                emit_store(builder, vector, total, pointer)
            return context.get_dummy_value()

        return types.void(acc, y, types.intp), codegen

    return add_to


def make_store_columns(rows: int, columns: int):
    """`store_columns(acc, y, y_first, y_columns, pitch)` and `store_columns_between(..., counts)` (vmovu, masked).

    y[y_first + y_columns[c] + r * pitch :] = acc[r, c]. The second one stores the first counts[c] lanes of acc[r, c].
    """

    def stores(emit):
        """Code that stores acc[r, c], where emit(builder, c, value, pointer, *extra) stores one vector."""

        def codegen(context, builder, signature, args):
            acc, y, y_first, y_columns, pitch, *extra = args
            base = pointer_to(context, builder, signature.args[1], y, y_first)
            firsts = [builder.gep(base, [offset]) for offset in emit_unpacked(builder, y_columns)]
            for r in range(rows):
                for c in range(columns):
                    pointer = builder.gep(firsts[c], [builder.mul(pitch, INDEX(r))])
                    emit(builder, c, builder.extract_value(acc, r * columns + c), pointer, *extra)
            return context.get_dummy_value()

        return codegen

    @intrinsic
    def store_columns(typing_context, acc, y, y_first, y_columns, pitch):
        def emit(builder, c, value, pointer):
            emit_store(builder, acc.dtype, value, pointer)

        return types.void(acc, y, types.intp, y_columns, types.intp), stores(emit)

    @intrinsic
    def store_columns_between(typing_context, acc, y, y_first, y_columns, pitch, counts):
        def emit(builder, c, value, pointer, counts):
            emit_store_between(builder, acc.dtype, value, pointer, INDEX(0), builder.extract_value(counts, c))

        return types.void(acc, y, types.intp, y_columns, types.intp, counts), stores(emit)

    return store_columns, store_columns_between
