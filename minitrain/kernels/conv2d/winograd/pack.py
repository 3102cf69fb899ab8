"""Pixels of Winograd's convolutions on the way into vectors of channels."""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.simd.transpose import scatter_transposed
from nbnorm.simd.vectors import lanes_of, load

__all__ = ["Channels", "Packed", "place_pixels"]


class Channels(NamedTuple):
    """A vector of channels of an image: `used` planes of `source`, `pitch` values apart, from `offset` on.

    normalization: (4, all channels, up to a whole vector) in one row, of which the vectors from `channel` on are the
    `factors` of `scatter_transposed`; or empty, which changes no value.
    """

    source: Any
    offset: int
    pitch: int
    used: int
    normalization: Any
    channel: int


class Packed(NamedTuple):
    """Where vectors of channels go: that of a pixel to memory[origin + pixels[pixel]:]."""

    memory: Any
    origin: int
    pixels: Any


@device
def place_pixels(channels, first, last, end, packed):
    """Pack pixels [first, last) of the channels' planes, as vectors of channels.

    Vectors of pixels: those of the last one that lie beyond `last` are packed too, up to `end`, where it is moved back
    to end there. Returns where to go on.
    """
    memory = packed.memory
    lanes = lanes_of(memory)
    pixel = first
    if channels.normalization.size:
        row = channels.normalization.size // 4
        factors = (
            load(channels.normalization, channels.channel),
            load(channels.normalization, row + channels.channel),
            load(channels.normalization, 2 * row + channels.channel),
            load(channels.normalization, 3 * row + channels.channel),
        )
        while pixel < last:
            start = min(pixel, end - lanes)
            scatter_transposed(channels.source, channels.offset + start, channels.pitch, channels.used, factors,
                               memory, packed.origin, packed.pixels, start)  # fmt: skip
            pixel = start + lanes
    else:
        while pixel < last:
            start = min(pixel, end - lanes)
            scatter_transposed(channels.source, channels.offset + start, channels.pitch, channels.used, None,
                               memory, packed.origin, packed.pixels, start)  # fmt: skip
            pixel = start + lanes
    return pixel
