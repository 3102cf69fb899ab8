"""The elementwise passes of norms whose values lie in rows: what neighbouring values have in common is a channel.

They go over runs of neighbouring channels, `length` elements each, so that what they store are whole vectors at
multiples of the vector's size, wherever channels begin: a vector may hold the end of one and the beginning of the next.
"""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.kernels.runs import CENTER, OFFSET, SCALE, SHIFT, SLOPE
from nbnorm.kernels.statistics import Factors
from nbnorm.kernels.sums import gated_at, gated_part_at, in_lanes
from nbnorm.simd.masks import blend, load_part, store_part
from nbnorm.simd.memory import elements_to_boundary, item, prefetch_for_store, stream
from nbnorm.simd.vectors import add, fma, lanes_of, load, maximum, multiply, splat, store, subtract

__all__ = ["differentiate", "normalize", "table_factors"]


class GradientFactors(NamedTuple):
    """dx = scale * (g - offset - (x - center) * slope), with the slope negated; in all lanes."""

    center: Any
    scale: Any
    shift: Any
    slope: Any
    offset: Any


@device
def table_factors(table, c):
    """Factors of the c-th channel of a table."""
    k = table.first + c * table.pitch
    return Factors(item(table.values, k + CENTER), item(table.values, k + SCALE), item(table.values, k + SHIFT))


@device
def _gradient_factors(table, c):
    k = table.first + c * table.pitch
    center, scale, shift = in_lanes(table_factors(table, c))
    return GradientFactors(
        center, scale, shift, splat(-item(table.values, k + SLOPE)), splat(item(table.values, k + OFFSET))
    )


@device
def _normalize_part(x, residual, y, i, rest, factors, low):
    v = fma(subtract(load_part(x, i, rest, factors.center), factors.center), factors.scale, factors.shift)
    if residual.size > 0:
        v = add(v, load_part(residual, i, rest, factors.center))
    store_part(y, i, rest, maximum(low, v))


@device
def _normalize_full(x, residual, y, i, factors, low, streaming):
    v = fma(subtract(load(x, i), factors.center), factors.scale, factors.shift)
    if residual.size > 0:
        v = add(v, load(residual, i))
    if streaming:
        stream(y, i, maximum(low, v))
    else:
        store(y, i, maximum(low, v))


@device
def normalize(x, residual, y, runs, channels, table, floor, stores):
    """y = max((x - center) * scale + shift [+ residual], floor); a floor of NaN is none.

    A run has `channels` times its length. The last run comes first: the sums went forward, and left the end of the
    channels in the cache.
    """
    lanes, length, low = lanes_of(x), runs.length, splat(floor)
    wide = length >= lanes
    streaming = stores.streaming and wide
    whole = channels * length
    distance = min(stores.ahead, whole)
    large = streaming or stores.ahead > 0
    for run in range(runs.number - 1, -1, -1):
        i = runs.first + run * runs.pitch
        end = i + length
        last = i + whole - distance
        leap = distance - (runs.pitch + whole if run > 0 else 0)
        kept = in_lanes(table_factors(table, 0))
        if wide:
            rest = min(elements_to_boundary(y, i), length)
            if rest > 0:
                _normalize_part(x, residual, y, i, rest, kept, low)
                i += rest
        for c in range(1, channels + 1):
            while i + lanes <= end and large:
                if not streaming:
                    prefetch_for_store(y, i + (distance if i < last else leap))
                _normalize_full(x, residual, y, i, kept, low, streaming)
                i += lanes
            while i + lanes <= end:
                _normalize_full(x, residual, y, i, kept, low, False)
                i += lanes
            rest = end - i
            if c == channels:
                if rest > 0:
                    _normalize_part(x, residual, y, i, rest, kept, low)
            else:
                after = in_lanes(table_factors(table, c))
                if rest > 0 and wide:
                    own = Factors(
                        blend(rest, kept.center, after.center),
                        blend(rest, kept.scale, after.scale),
                        blend(rest, kept.shift, after.shift),
                    )
                    _normalize_full(x, residual, y, i, own, low, streaming)
                    i += lanes
                elif rest > 0:
                    _normalize_part(x, residual, y, i, rest, kept, low)
                    i = end
                kept = after
            end += length


@device
def _differentiate_part(gated, dx, i, rest, factors, low):
    g, d = gated_part_at(gated, i, rest, factors, low)
    store_part(dx, i, rest, multiply(factors.scale, fma(d, factors.slope, subtract(g, factors.offset))))


@device
def _differentiate_full(gated, dx, i, factors, low, streaming):
    g, d = gated_at(gated, i, factors, low)
    v = multiply(factors.scale, fma(d, factors.slope, subtract(g, factors.offset)))
    if streaming:
        stream(dx, i, v)
    else:
        store(dx, i, v)


@device
def differentiate(gated, dx, runs, channels, table, stores):
    """dx = scale * (g - offset - (x - center) * slope), over the runs in the order of `normalize`."""
    lanes, length, low = lanes_of(gated.x), runs.length, splat(gated.floor)
    wide = length >= lanes
    streaming = stores.streaming and wide
    whole = channels * length
    distance = min(stores.ahead, whole)
    large = streaming or stores.ahead > 0
    for run in range(runs.number - 1, -1, -1):
        i = runs.first + run * runs.pitch
        end = i + length
        last = i + whole - distance
        leap = distance - (runs.pitch + whole if run > 0 else 0)
        kept = _gradient_factors(table, 0)
        if wide:
            rest = min(elements_to_boundary(dx, i), length)
            if rest > 0:
                _differentiate_part(gated, dx, i, rest, kept, low)
                i += rest
        for c in range(1, channels + 1):
            while i + lanes <= end and large:
                if not streaming:
                    prefetch_for_store(dx, i + (distance if i < last else leap))
                _differentiate_full(gated, dx, i, kept, low, streaming)
                i += lanes
            while i + lanes <= end:
                _differentiate_full(gated, dx, i, kept, low, False)
                i += lanes
            rest = end - i
            if c == channels:
                if rest > 0:
                    _differentiate_part(gated, dx, i, rest, kept, low)
            else:
                after = _gradient_factors(table, c)
                if rest > 0 and wide:
                    _differentiate_full(gated, dx, i, _blended(rest, kept, after), low, streaming)
                    i += lanes
                elif rest > 0:
                    _differentiate_part(gated, dx, i, rest, kept, low)
                    i = end
                kept = after
            end += length


@device
def _blended(count, first, rest):
    """The factors of the first `count` lanes from one channel, those of the others from the next."""
    return GradientFactors(
        blend(count, first.center, rest.center),
        blend(count, first.scale, rest.scale),
        blend(count, first.shift, rest.shift),
        blend(count, first.slope, rest.slope),
        blend(count, first.offset, rest.offset),
    )
