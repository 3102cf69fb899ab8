"""The kernel of a depthwise convolution's weight gradient, for stride 1: plane by plane, in the order of memory.

    dweight[c, i, j] = sum over images n and pixels (p, q) of dy[n, c, p, q] * x[n, c, p + i * dh, q + j * dw]

In plain NumPy, for x (N, C, H, W) already between zeros::

    for i in range(kh):
        for j in range(kw):
            tap = x[:, :, i * dh :, j * dw :][:, :, : dy.shape[2], : dy.shape[3]]
            dweight[:, 0, i, j] = (dy * tap).sum(axis=(0, 2, 3))

The steps from there to here, and what each is for:

- a plane is summed for all taps before the next one: it is read once, and stays in a level 1 cache between zeros;
- the lanes of a vector are pixels, so that the sum for a tap is a vector until the end;
- the sums for `TAPS` taps stay in registers;
- each chunk of images (a matter of shapes, not of threads) makes partial sums, which are added in the order of the
  chunks: all threads have work, and results have the same bits for any number of them.
"""

import numpy as np

from minitrain.kernels.conv2d.depthwise.pack import Plane, copy_plane
from minitrain.kernels.conv2d.depthwise.weight_cut import TAPS, DepthwiseWeightCut
from minitrain.kernels.conv2d.memory import clear
from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, size_of
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat, prefetch
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import add, lanes_of, load

__all__ = ["sum_planes"]

_tile = make_tile(1, TAPS)
_zero, _add_scaled, _add_to, _offsets = _tile.zero, _tile.add_scaled, _tile.add_to, _tile.offsets

cut_of = record(DepthwiseWeightCut)
TAP_OFFSETS = size_of(DepthwiseWeightCut)  # where they begin in the row


@device
def _sum_plane(dy, memory, plane, row, taps, sums):
    """Add the sums of one plane of dy for `TAPS` taps, vectors, to memory[sums:].

    memory[plane:] is the packed plane of x, in rows that are `row` values apart. The last vector of a row is moved back
    to end with it, without the pixels that it shares with the one before. Meanwhile the plane of dy that is read next
    is fetched.
    """
    lanes, width = lanes_of(memory), dy.width
    acc = _zero(memory)
    for first in range(0, width, lanes):
        v = max(0, min(first, width - lanes))
        low, high = first - v, width - v
        x_row, dy_row = plane + v, dy.offset + v
        for _ in range(dy.height):
            acc = _add_scaled(acc, load_between(dy.array, dy_row, low, high), memory, taps, x_row)
            prefetch(dy.array, dy_row + dy.following)
            x_row += row
            dy_row += width
    _add_to(acc, memory, sums)


@device
def _sum_task(task, cut, row, dy, x, scratch, plane):
    """Some channels of one chunk of images; scratch[plane:] is the worker's own, its borders are 0."""
    shares, planes, packing = cut.shares, cut.planes, cut.packing
    size, out_size = planes.height * planes.width, planes.out_height * planes.out_width
    chunk, first = task // shares.blocks, task % shares.blocks * shares.block
    used = min(shares.block, shares.channels - first)
    lanes = lanes_of(scratch)
    sums_size = shares.padded_taps * lanes
    sums = (chunk * shares.channels + first) * sums_size
    clear(scratch, sums, used * sums_size)
    for n in range(chunk * shares.images // shares.chunks, (chunk + 1) * shares.images // shares.chunks):
        for c in range(used):
            index = n * shares.channels + first + c
            following = 1 if c + 1 < used else 1 + shares.channels - used
            x_plane = Plane(x, index * size, planes.height, planes.width, following * size)
            copy_plane(x_plane, scratch, plane + packing.first, packing.row)
            dy_plane = Plane(dy, index * out_size, planes.out_height, planes.out_width, following * out_size)
            for tap in range(0, shares.padded_taps, TAPS):
                taps = _offsets(row, TAP_OFFSETS + tap)
                _sum_plane(dy_plane, scratch, plane, packing.row, taps, sums + c * sums_size + tap * lanes)


@device
def _sum_share(worker, row, dy, x, scratch):
    """The tasks of one worker."""
    cut = cut_of(row)
    tasks, plane = cut.shares.chunks * cut.shares.blocks, cut.sums + worker * cut.packing.size
    clear(scratch, plane, cut.packing.size)
    for task in range(worker * tasks // cut.workers, (worker + 1) * tasks // cut.workers):
        _sum_task(task, cut, row, dy, x, scratch, plane)


@device
def _finish(channel, row, scratch, dweight):
    """Add the chunks' sums of one channel, and the lanes of each."""
    shares, lanes = cut_of(row).shares, lanes_of(scratch)
    for tap in range(shares.taps):
        sums = (channel * shares.padded_taps + tap) * lanes
        total = load(scratch, sums)
        for chunk in range(1, shares.chunks):
            total = add(total, load(scratch, sums + chunk * shares.channels * shares.padded_taps * lanes))
        dweight[channel * shares.taps + tap] = sum_lanes(total)


@kernel
def sum_planes(row, dy, x, scratch, dweight):
    """Overwrite dweight (channels, 1, kh, kw). See `DepthwiseWeight` for the row."""
    row, dy, x, scratch, dweight = flat(row), flat(dy), flat(x), flat(scratch), flat(dweight)
    for worker in prange(cut_of(row).workers):
        _sum_share(np.intp(worker), row, dy, x, scratch)
    for channel in prange(cut_of(row).shares.channels):
        _finish(np.intp(channel), row, scratch, dweight)
