"""The kernel of a depthwise convolution of stride 1, and of its input gradient: plane by plane, in the order of memory.

There is a product or two for each byte that is moved: what counts is that a plane is read once, that it stays in a
level 1 cache between zeros while it is worked on, and that the next one is on its way.
"""

import numpy as np

from minitrain.kernels.conv2d.direct.forward import finish
from minitrain.kernels.conv2d.direct.pack import clear
from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between, store_between
from nbnorm.simd.memory import flat, item, prefetch, prefetch_for_store
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import lanes_of, load, store

__all__ = ["HEAD", "ROWS", "copy_plane", "correlate_planes"]

HEAD = 11  # numbers of the table before the places of rows and taps
ROWS = 8  # of results that are made at a time: as many sums stay in registers

_tile = make_tile(1, ROWS)
_splat, _add_outer, _offsets = _tile.splat_rows, _tile.add_outer, _tile.offsets
_store, _store_between = _tile.store_columns, _tile.store_columns_between


@device
def copy_plane(source, at, height, width, following, target, to, pitch):
    """Copy the rows of a plane to rows that are `pitch` values apart; what is between them is left alone.

    Meanwhile the plane that is read next, `following` values further on, is fetched.
    """
    lanes = lanes_of(target)
    whole = width // lanes * lanes
    for _ in range(height):
        for v in range(0, whole, lanes):
            store(target, to + v, load(source, at + v))
            prefetch(source, at + following + v)
        if whole < width:
            rest = load_between(source, at + whole, 0, width - whole)
            store_between(target, to + whole, rest, 0, width - whole)
            prefetch(source, at + following + whole)
        at += width
        to += pitch


@device
def _correlate_plane(x, base, pitch, packed, weights, taps, places, row_places, counts, offsets, height, width,
                     target, to):  # fmt: skip
    """The results of one plane: sums over taps m of packed[weights + 1 + m] * x[base + offsets[m] + ...] into target.

    The last rows and the last vector of a row are moved back to end with the plane, if it is as large as they are.
    Meanwhile where the next plane of results goes is fetched.
    """
    lanes = lanes_of(target)
    for p in range(0, height, ROWS):
        p = max(0, min(p, height - ROWS))
        for v in range(0, width, lanes):
            v = max(0, min(v, width - lanes))
            start, goal = base + p * pitch + v, to + p * width + v
            acc = _splat(packed, weights)
            for m in range(taps):
                acc = _add_outer(acc, packed, weights + 1 + m, x, places, start + item(offsets, m))
            for place in row_places:
                prefetch_for_store(target, goal + height * width + place)
            if width >= lanes:
                _store(acc, target, goal, row_places, 0)
            else:
                _store_between(acc, target, goal, row_places, 0, counts)


@device
def _correlate_share(worker, row, source, packed, residual, affine, relu, scratch, target):
    """The planes of one worker."""
    planes, channels, workers = item(row, 0), item(row, 1), item(row, 2)
    height, width, out_height, out_width = item(row, 3), item(row, 4), item(row, 5), item(row, 6)
    pitch, inside, size, taps = item(row, 7), item(row, 8), item(row, 9), item(row, 10)
    places, row_places = _offsets(row, HEAD), _offsets(row, HEAD + ROWS)
    counts = _offsets(row, HEAD + 2 * ROWS)
    offsets = flat(row[HEAD + 3 * ROWS :])
    plane, out_plane = height * width, out_height * out_width
    at = worker * size
    clear(scratch, at, size)
    first = worker * planes // workers
    channel = first % channels
    for index in range(first, (worker + 1) * planes // workers):
        copy_plane(source, index * plane, height, width, plane, scratch, at + inside, pitch)
        to = index * out_plane
        _correlate_plane(scratch, at, pitch, packed, channel * (1 + taps), taps, places, row_places, counts, offsets,
                         out_height, out_width, target, to)  # fmt: skip
        finish(residual, relu, affine, channel, to, out_plane, 1, out_plane, target)
        channel = channel + 1 if channel + 1 < channels else 0


@kernel
def correlate_planes(table, source, packed, residual, affine, relu, scratch, target):
    """Overwrite target (images, channels, out_height, out_width) from source (images, channels, height, width).

    See the plan, `Depthwise`, for the table. packed: for each channel its bias and its taps. The residual, ReLU and
    affine: see `finish`.
    """
    row, source, packed, residual = flat(table), flat(source), flat(packed), flat(residual)
    affine, scratch, target = flat(affine), flat(scratch), flat(target)
    for worker in prange(row[2]):
        _correlate_share(np.intp(worker), row, source, packed, residual, affine, relu, scratch, target)
