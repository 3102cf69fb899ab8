"""Packing for the depthwise convolutions: a plane in rows between zeros, in which every tap is an offset."""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.simd.masks import load_between, store_between
from nbnorm.simd.memory import prefetch
from nbnorm.simd.vectors import lanes_of, load, store

__all__ = ["Plane", "copy_plane"]


class Plane(NamedTuple):
    """A plane of array[offset:], without gaps; the one that is read next is `following` values further on."""

    array: Any
    offset: int
    height: int
    width: int
    following: int


@device
def copy_plane(plane, memory, first, row):
    """Copy a plane's rows to memory[first:], `row` values apart; what is between them is left alone.

    Meanwhile the plane that is read next is fetched.
    """
    source, width, pixels = plane.array, plane.width, plane.offset
    lanes = lanes_of(memory)
    whole = width // lanes * lanes
    for _ in range(plane.height):
        for v in range(0, whole, lanes):
            store(memory, first + v, load(source, pixels + v))
            prefetch(source, pixels + plane.following + v)
        if whole < width:
            rest = load_between(source, pixels + whole, 0, width - whole)
            store_between(memory, first + whole, rest, 0, width - whole)
            prefetch(source, pixels + plane.following + whole)
        pixels += width
        first += row
