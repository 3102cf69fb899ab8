"""Pixels of Winograd's convolutions on the way into vectors of channels."""

from nbnorm.jit import device
from nbnorm.simd.transpose import scatter_transposed
from nbnorm.simd.vectors import lanes_of, load

__all__ = ["place_pixels"]


@device
def place_pixels(source, at, pitch, channels, first, last, end, normalization, channel, target, to, places):
    """Put pixels [first, last) of `channels` planes, `pitch` apart, as vectors at target[to + places[pixel]:].

    Vectors of pixels: those of the last one that lie beyond `last` are placed too, up to `end`, where it is moved back
    to end there. Returns where to go on.

    normalization: (4, all channels, up to a whole vector) in one row, of which the vectors from `channel` on are the
    `factors` of `scatter_transposed`; or empty, which changes no value.
    """
    lanes = lanes_of(target)
    pixel = first
    if normalization.size:
        row = normalization.size // 4
        factors = (
            load(normalization, channel),
            load(normalization, row + channel),
            load(normalization, 2 * row + channel),
            load(normalization, 3 * row + channel),
        )
        while pixel < last:
            start = min(pixel, end - lanes)
            scatter_transposed(source, at + start, pitch, channels, factors, target, to, places, start)
            pixel = start + lanes
    else:
        while pixel < last:
            start = min(pixel, end - lanes)
            scatter_transposed(source, at + start, pitch, channels, None, target, to, places, start)
            pixel = start + lanes
    return pixel
