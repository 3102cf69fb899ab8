"""Products that are added to a register tile: outer products, products of lanes, dot products (vfmadd each)."""

from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_load_between
from nbnorm.simd.tiles.loads import emit_unpacked
from nbnorm.simd.vectors import INDEX, emit_call, emit_load, emit_splat, pointer_to

__all__ = ["make_add_dots", "make_add_outer", "make_add_outer_spaced", "make_add_products", "make_add_scaled"]


def _emit_add_product(builder, vector, acc, index, a, b):
    value = emit_call(builder, vector, "llvm.fma", a, b, builder.extract_value(acc, index))
    return builder.insert_value(acc, value, index)


def _emit_load_first(builder, vector, pointer, count):
    return emit_load_between(builder, vector, pointer, INDEX(0), count)


def make_add_outer(rows: int, columns: int):
    """`add_outer(acc, w, w_first, x, offsets, x_first)`: acc[r, c] += w[w_first + r] * x[offsets[c] + x_first :]."""

    @intrinsic
    def add_outer(typing_context, acc, w, w_first, x, offsets, x_first):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, w, w_first, x, offsets, x_first = args
            w = pointer_to(context, builder, signature.args[1], w, w_first)
            # offsets of a block of columns come first, so that these pointers stay the same across a loop over x_first
            firsts = [pointer_to(context, builder, signature.args[3], x, c) for c in emit_unpacked(builder, offsets)]
            xs = [emit_load(builder, vector, builder.gep(first, [x_first])) for first in firsts]
            for r in range(rows):
                scalar = emit_splat(builder, vector.llvm, builder.load(builder.gep(w, [INDEX(r)])))
                for c in range(columns):
                    acc = _emit_add_product(builder, vector, acc, r * columns + c, scalar, xs[c])
            return acc

        return acc(acc, w, types.intp, x, offsets, types.intp), codegen

    return add_outer


def make_add_outer_spaced(rows: int, columns: int):
    """`add_outer_spaced(acc, w, w_first, w_pitch, x, x_first)`: an outer product of values that lie `w_pitch` apart.

    acc[r, c] += w[w_first + r * w_pitch] * x[x_first + c * lanes :].
    """

    @intrinsic
    def add_outer_spaced(typing_context, acc, w, w_first, w_pitch, x, x_first):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, w, w_first, w_pitch, x, x_first = args
            w = pointer_to(context, builder, signature.args[1], w, w_first)
            x = pointer_to(context, builder, signature.args[4], x, x_first)
            xs = [emit_load(builder, vector, builder.gep(x, [INDEX(c * vector.lanes)])) for c in range(columns)]
            for r in range(rows):
                scalar = builder.load(builder.gep(w, [builder.mul(w_pitch, INDEX(r))]))
                scalar = emit_splat(builder, vector.llvm, scalar)
                for c in range(columns):
                    acc = _emit_add_product(builder, vector, acc, r * columns + c, scalar, xs[c])
            return acc

        return acc(acc, w, types.intp, types.intp, x, types.intp), codegen

    return add_outer_spaced


def make_add_products(rows: int, columns: int):
    """`add_products(acc, a, a_first, b, offsets, b_first)` and `add_products_between(..., count)`.

    acc[r, c] += a[a_first + r * lanes :] * b[offsets[c] + b_first :]. The second one does so for the first `count`
    lanes and reads no others of b.
    """

    def products(vector, load_column):
        """Code of acc[r, c] += a row r * b column c, where load_column(builder, vector, pointer, *extra) reads b."""

        def codegen(context, builder, signature, args):
            acc, a, a_first, b, offsets, b_first, *extra = args
            a = pointer_to(context, builder, signature.args[1], a, a_first)
            firsts = [pointer_to(context, builder, signature.args[3], b, c) for c in emit_unpacked(builder, offsets)]
            values = [load_column(builder, vector, builder.gep(first, [b_first]), *extra) for first in firsts]
            for r in range(rows):
                head = emit_load(builder, vector, builder.gep(a, [INDEX(r * vector.lanes)]))
                for c in range(columns):
                    acc = _emit_add_product(builder, vector, acc, r * columns + c, head, values[c])
            return acc

        return codegen

    @intrinsic
    def add_products(typing_context, acc, a, a_first, b, offsets, b_first):
        return acc(acc, a, types.intp, b, offsets, types.intp), products(acc.dtype, emit_load)

    @intrinsic
    def add_products_between(typing_context, acc, a, a_first, b, offsets, b_first, count):
        return acc(acc, a, types.intp, b, offsets, types.intp, types.intp), products(acc.dtype, _emit_load_first)

    return add_products, add_products_between


def make_add_scaled(rows: int, columns: int):
    """`add_scaled(acc, vector, b, offsets, b_first)`: acc[r, c] += vector * b[offsets[c] + b_first :]."""

    @intrinsic
    def add_scaled(typing_context, acc, factor, b, offsets, b_first):
        vector = acc.dtype

        def codegen(context, builder, signature, args):
            acc, factor, b, offsets, b_first = args
            firsts = [pointer_to(context, builder, signature.args[2], b, c) for c in emit_unpacked(builder, offsets)]
            values = [emit_load(builder, vector, builder.gep(first, [b_first])) for first in firsts]
            for index in range(rows * columns):
                acc = _emit_add_product(builder, vector, acc, index, factor, values[index % columns])
            return acc

        return acc(acc, factor, b, offsets, types.intp), codegen

    return add_scaled


def make_add_dots(rows: int, columns: int):
    """`add_dots(acc, a, a_first, a_pitch, b, b_first, b_pitch)` and `add_dots_between(..., count)`.

    acc[r, c] += a[a_first + r * a_pitch :] * b[b_first + c * b_pitch :], lane by lane. The second one does so for the
    first `count` lanes and reads no others.
    """

    def dots(load):
        """Code of acc[r, c] += row r of a * row c of b, where load(builder, vector, pointer, *extra) reads both."""

        def codegen(context, builder, signature, args):
            acc, a, a_first, a_pitch, b, b_first, b_pitch, *extra = args
            vector = signature.return_type.dtype
            sides = []
            for array, kind, offset, pitch, count in (
                (a, signature.args[1], a_first, a_pitch, rows),
                (b, signature.args[4], b_first, b_pitch, columns),
            ):
                first = pointer_to(context, builder, kind, array, offset)
                pointers = [builder.gep(first, [builder.mul(pitch, INDEX(k))]) for k in range(count)]
                sides.append([load(builder, vector, pointer, *extra) for pointer in pointers])
            for r in range(rows):
                for c in range(columns):
                    acc = _emit_add_product(builder, vector, acc, r * columns + c, sides[0][r], sides[1][c])
            return acc

        return codegen

    index = types.intp

    @intrinsic
    def add_dots(typing_context, acc, a, a_first, a_pitch, b, b_first, b_pitch):
        return acc(acc, a, index, index, b, index, index), dots(emit_load)

    @intrinsic
    def add_dots_between(typing_context, acc, a, a_first, a_pitch, b, b_first, b_pitch, count):
        return acc(acc, a, index, index, b, index, index, index), dots(_emit_load_first)

    return add_dots, add_dots_between
