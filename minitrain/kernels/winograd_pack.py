"""Pixels of Winograd's convolutions on the way into vectors of channels."""

from nbnorm._jit import device
from nbnorm.simd.squares import scatter_transposed
from nbnorm.simd.vectors import lanes_of, load

__all__ = ["place_pixels"]


@device
def place_pixels(source, at, pitch, channels, first, last, normalization, channel, target, to, places):
    """Put pixels [first, last) of `channels` planes, `pitch` apart, as vectors at target[to + places[pixel]:].

    Whole vectors of pixels: the last ones go back to before `first` where they are fewer, and are written once more.
    normalization: (4, all channels, up to a whole vector) in one row, of which the vector from `channel` on makes the
    `factors` of `scatter_transposed`; or empty, which changes no value.
    """
    lanes = lanes_of(target)
    if normalization.size:
        row = normalization.size // 4
        factors = (
            load(normalization, channel),
            load(normalization, row + channel),
            load(normalization, 2 * row + channel),
            load(normalization, 3 * row + channel),
        )
        for pixel in range(first, last, lanes):
            start = min(pixel, last - lanes)
            scatter_transposed(source, at + start, pitch, channels, factors, target, to, places, start)
    else:
        for pixel in range(first, last, lanes):
            start = min(pixel, last - lanes)
            scatter_transposed(source, at + start, pitch, channels, None, target, to, places, start)
