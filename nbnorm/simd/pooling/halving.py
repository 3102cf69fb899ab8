"""Maxima of 2x2 windows with stride 2 in planes of few columns: as many windows at a time as a vector has lanes.

Vectors of one row would be filled in part only. But windows that fill whole rows lie in one piece of four vectors,
whatever rows and planes they belong to. Arrays are one-dimensional and contiguous, as in `nbnorm.simd.vectors`.
"""

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.pooling.windows import emit_better
from nbnorm.simd.shuffles import emit_joined, emit_shuffle
from nbnorm.simd.vectors import INDEX, emit_load, emit_store, pointer_to, vector_of, zero_constant

__all__ = ["Halving", "make_halving"]


class Halving(NamedTuple):
    """The operations on rows of `columns` windows; see `make_halving`."""

    gather: Any
    scatter: Any


@cache
def make_halving(columns: int) -> Halving:
    """Make the intrinsics for rows of so many windows. Where `columns` does not divide the lanes they do nothing.

    Window i < lanes has the elements source[4 at + e] with e = 4 columns (i // columns) + 2 (i % columns), the next one
    (1), and those 2 columns further (2 and 3); `at` is a multiple of `columns`.

    ===========================================  =====================================================================
    `gather(source, at, best, places)`           best[at + i] = maximum of window i, places[at + i] = which element
                                                 that is: the first of equals, the last NaN
    `scatter(gradient, places, at, target)`      target[4 at :] = gradient[at + i] where places[at + i] says, else 0
    ===========================================  =====================================================================
    """

    def window_and_place(element):
        row, rest = divmod(element, 4 * columns)
        bottom, rest = divmod(rest, 2 * columns)
        return row * columns + rest // 2, 2 * bottom + rest % 2

    def bytes_of(array, lanes):
        return ir.VectorType(ir.IntType(array.dtype.bitwidth), lanes)

    @intrinsic
    def gather(typing_context, source, at, best, places):
        vector = vector_of(source.dtype)
        lanes = vector.lanes

        def codegen(context, builder, signature, args):
            if lanes % columns:
                return context.get_dummy_value()
            source_value, at, best_value, places_value = args
            first = pointer_to(context, builder, source, source_value, builder.mul(at, INDEX(4)))
            pieces = [emit_load(builder, vector, builder.gep(first, [INDEX(q * lanes)])) for q in range(4)]
            elements = emit_joined(builder, pieces)
            order = sorted(range(4 * lanes), key=lambda element: window_and_place(element)[::-1])
            number = bytes_of(places, lanes)
            value = chosen = None
            for place in range(4):
                other = emit_shuffle(builder, elements, elements, order[place * lanes : (place + 1) * lanes])
                if value is None:
                    value, chosen = other, ir.Constant(number, [0] * lanes)
                    continue
                take = emit_better(builder, other, value)
                value = builder.select(take, other, value)
                chosen = builder.select(take, ir.Constant(number, [place] * lanes), chosen)
            emit_store(builder, vector, value, pointer_to(context, builder, best, best_value, at))
            pointer = builder.bitcast(pointer_to(context, builder, places, places_value, at), number.as_pointer())
            builder.store(chosen, pointer).align = places.dtype.bitwidth // 8
            return context.get_dummy_value()

        return types.void(source, types.intp, best, places), codegen

    @intrinsic
    def scatter(typing_context, gradient, places, at, target):
        vector = vector_of(gradient.dtype)
        lanes = vector.lanes

        def codegen(context, builder, signature, args):
            if lanes % columns:
                return context.get_dummy_value()
            gradient_value, places_value, at, target_value = args
            share = emit_load(builder, vector, pointer_to(context, builder, gradient, gradient_value, at))
            number = bytes_of(places, lanes)
            pointer = builder.bitcast(pointer_to(context, builder, places, places_value, at), number.as_pointer())
            chosen = builder.load(pointer)
            chosen.align = places.dtype.bitwidth // 8
            first = pointer_to(context, builder, target, target_value, builder.mul(at, INDEX(4)))
            for q in range(4):
                pairs = [window_and_place(q * lanes + lane) for lane in range(lanes)]
                windows = [window for window, _ in pairs]
                own = builder.icmp_unsigned(
                    "==", emit_shuffle(builder, chosen, chosen, windows), ir.Constant(number, [p for _, p in pairs])
                )
                value = builder.select(own, emit_shuffle(builder, share, share, windows), zero_constant(vector))
                emit_store(builder, vector, value, builder.gep(first, [INDEX(q * lanes)]))
            return context.get_dummy_value()

        return types.void(gradient, places, types.intp, target), codegen

    return Halving(gather, scatter)
