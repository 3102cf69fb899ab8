"""Maxima of windows in vectors.

For windows of 2x2 elements with stride 2 one intrinsic each way does all: a vector of x holds lanes / 2 windows of one
row. For others a vector holds one element of each of its windows, and a pair of vectors what is chosen so far. Arrays
are one-dimensional, contiguous and borrowed, as in `nbnorm.simd.vectors`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.masks import emit_first_lanes, emit_lane_mask, emit_masked_load, emit_masked_store
from nbnorm.simd.shuffles import emit_shuffle
from nbnorm.simd.vectors import INDEX, INT32, emit_splat, pointer_to, vector_of, zero_constant

__all__ = [
    "choose_between",
    "emit_better",
    "halve_maximum",
    "maximum_of_pairs",
    "nothing_chosen",
    "spread_maximum",
    "store_chosen",
]


def _lanes(scalar: ir.Type, values: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(scalar, len(values)), values)


def emit_better(builder, other, value):
    """Mask of the lanes in which `other` becomes the maximum instead of `value`: it is greater, or a NaN (vcmp)."""
    return builder.or_(builder.fcmp_ordered(">", other, value), builder.fcmp_unordered("uno", other, other))


@intrinsic
def halve_maximum(typing_context, source, starts, width, count, best, places, ats):
    """best[at + i] = maximum of window i < count, places[at + i] = which element that is: first of equals, last of NaN.

    Elements 0 and 1 of a window are source[start + 2 i], source[start + 2 i + 1]; 2 and 3 lie `width` further.
    `starts` and `ats` are pairs: two rows of windows at a time, since those of one row fill half of a vector.
    """
    vector = vector_of(source.dtype)
    lanes, half = vector.lanes, vector.lanes // 2
    place = ir.IntType(places.dtype.bitwidth)

    def codegen(context, builder, signature, args):
        source_value, start_pair, width, count, best_value, places_value, at_pair = args
        whole = emit_first_lanes(builder, lanes, builder.add(count, count))
        pieces = []
        for row in (0, 1):
            start = builder.extract_value(start_pair, row)
            for at in (start, builder.add(start, width)):
                pointer = pointer_to(context, builder, signature.args[0], source_value, at)
                pieces.append(emit_masked_load(builder, vector.llvm, pointer, whole))
        top, bottom = pieces[0::2], pieces[1::2]
        value, chosen = None, None
        for number, rows in enumerate((top, top, bottom, bottom)):
            other = emit_shuffle(builder, *rows, list(range(number % 2, 2 * lanes, 2)))
            if value is None:
                value, chosen = other, _lanes(place, [0] * lanes)
                continue
            take = emit_better(builder, other, value)
            value = builder.select(take, other, value)
            chosen = builder.select(take, _lanes(place, [number] * lanes), chosen)
        mask = emit_first_lanes(builder, half, count)
        for row in (0, 1):
            at = builder.extract_value(at_pair, row)
            own = list(range(row * half, (row + 1) * half))
            for array, value_type, result in ((best_value, best, value), (places_value, places, chosen)):
                pointer = pointer_to(context, builder, value_type, array, at)
                emit_masked_store(builder, emit_shuffle(builder, result, result, own), pointer, mask)
        return context.get_dummy_value()

    pair = types.UniTuple(types.intp, 2)
    return types.void(source, pair, types.intp, types.intp, best, places, pair), codegen


@intrinsic
def maximum_of_pairs(typing_context, source, start, width, count):
    """Lane i: what `halve_maximum` puts into best[at + i], for i < count; count <= lanes. No other windows are read."""
    vector = vector_of(source.dtype)
    lanes = vector.lanes

    def codegen(context, builder, signature, args):
        source_value, start, width, count = args
        elements = builder.add(count, count)
        beyond = builder.sub(elements, INDEX(lanes))
        none = builder.icmp_signed("<", beyond, INDEX(0))
        counts = (elements, builder.select(none, INDEX(0), beyond))
        value = None
        for at in (start, builder.add(start, width)):
            pointer = pointer_to(context, builder, signature.args[0], source_value, at)
            halves = [
                emit_masked_load(builder, vector.llvm, builder.gep(pointer, [INDEX(side * lanes)]),
                      emit_first_lanes(builder, lanes, counts[side]))
                for side in (0, 1)
            ]  # fmt: skip
            for first in (0, 1):
                other = emit_shuffle(builder, *halves, list(range(first, 2 * lanes, 2)))
                if value is None:
                    value = other
                    continue
                take = emit_better(builder, other, value)
                value = builder.select(take, other, value)
        return value

    return vector(source, types.intp, types.intp, types.intp), codegen


@intrinsic
def spread_maximum(typing_context, gradient, places, at, count, target, start, width, size):
    """The elements of the windows i < count: gradient[at + i] in the one that places[at + i] names, 0 in the others.

    `size` elements are written from target[start] and from target[start + width] on, 0 where no window is left.
    """
    vector = vector_of(gradient.dtype)
    lanes, half = vector.lanes, vector.lanes // 2
    place = ir.IntType(places.dtype.bitwidth)
    twice = [lane // 2 for lane in range(lanes)]

    def codegen(context, builder, signature, args):
        gradient_value, places_value, at, count, target_value, start, width, size = args
        mask = emit_first_lanes(builder, half, count)
        loaded = []
        for array_type, array, scalar in (
            (gradient, gradient_value, vector.llvm.element),
            (places, places_value, place),
        ):
            pointer = pointer_to(context, builder, array_type, array, at)
            value = emit_masked_load(builder, ir.VectorType(scalar, half), pointer, mask)
            loaded.append(emit_shuffle(builder, value, value, twice))
        share, chosen = loaded
        whole = emit_first_lanes(builder, lanes, size)
        for row, first in enumerate((start, builder.add(start, width))):
            own = builder.icmp_unsigned("==", chosen, _lanes(place, [2 * row + lane % 2 for lane in range(lanes)]))
            pointer = pointer_to(context, builder, target, target_value, first)
            emit_masked_store(builder, builder.select(own, share, ir.Constant(vector.llvm, None)), pointer, whole)
        return context.get_dummy_value()

    index = types.intp
    return types.void(gradient, places, index, index, target, index, index, index), codegen


@intrinsic
def nothing_chosen(typing_context, array):
    """(maximum, its place in the window) of no element yet: the place is -1, as a float for want of other vectors."""
    vector = vector_of(array.dtype)
    pair = types.UniTuple(vector, 2)

    def codegen(context, builder, signature, args):
        none = ir.Constant(vector.llvm, [-1.0] * vector.lanes)
        return context.make_tuple(builder, pair, [ir.Constant(vector.llvm, None), none])

    return pair(array), codegen


@intrinsic
def choose_between(typing_context, chosen, other, place, low, high):
    """`chosen` (see `nothing_chosen`), or (other, place) in lanes low <= lane < high where it is greater or NaN."""
    vector = other

    def codegen(context, builder, signature, args):
        pair, other, place, low, high = args
        value, old = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
        number = emit_splat(builder, vector.llvm, builder.sitofp(place, vector.llvm.element))
        better = emit_better(builder, other, value)
        better = builder.or_(better, builder.fcmp_ordered("<", old, zero_constant(vector)))
        take = builder.and_(better, emit_lane_mask(builder, vector.lanes, low, high))
        values = [builder.select(take, other, value), builder.select(take, number, old)]
        return context.make_tuple(builder, chosen, values)

    return chosen(chosen, vector, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_chosen(typing_context, chosen, best, places, at, count):
    """best[at : at + count], places[at : at + count] = the first lanes of `chosen`; count <= lanes"""
    vector = chosen.dtype

    def codegen(context, builder, signature, args):
        pair, best_value, places_value, at, count = args
        mask = emit_first_lanes(builder, vector.lanes, count)
        value, place = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
        # by way of int32, since a place in a lane that is not stored may be -1
        place = builder.fptosi(place, ir.VectorType(INT32, vector.lanes))
        if places.dtype.bitwidth < 32:
            place = builder.trunc(place, ir.VectorType(ir.IntType(places.dtype.bitwidth), vector.lanes))
        for array_type, array, result in ((best, best_value, value), (places, places_value, place)):
            emit_masked_store(builder, result, pointer_to(context, builder, array_type, array, at), mask)
        return context.get_dummy_value()

    return types.void(chosen, best, places, types.intp, types.intp), codegen
