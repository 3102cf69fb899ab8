"""The kernel of a depthwise convolution's weight gradient, for stride 1: plane by plane, in the order of memory.

    dweight[c, i, j] = sum over images n and pixels (p, q) of dy[n, c, p, q] * x[n, c, p + i * dh - ph, q + j * dw - pw]

The lanes of a vector are pixels, so that the sum for a tap is a vector until the end. Each chunk of images (a matter of
shapes, not of threads) makes partial sums, which are added in the order of the chunks.
"""

import numpy as np

from minitrain.kernels.conv2d.depthwise.forward import copy_plane
from minitrain.kernels.conv2d.direct.pack import clear
from nbnorm.jit import device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat, item, prefetch
from nbnorm.simd.shuffles import sum_lanes
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import add, lanes_of, load

__all__ = ["HEAD", "TAPS", "sum_planes"]

HEAD = 15  # numbers of the table before the places of the taps
TAPS = 9  # that are summed at a time: as many sums stay in registers

_tile = make_tile(1, TAPS)
_zero, _add_scaled, _add_to, _offsets = _tile.zero, _tile.add_scaled, _tile.add_to, _tile.offsets


@device
def _sum_plane(memory, base, pitch, places, dy, at, height, width, following, sums):
    """Add the sums of one plane for `TAPS` taps, vectors, to memory[sums:]; memory[base:] is the packed plane of x.

    The last vector of a row is moved back to end with it, without the pixels that it shares with the one before.
    Meanwhile the plane of dy that is read next, `following` values further on, is fetched.
    """
    lanes = lanes_of(memory)
    acc = _zero(memory)
    for first in range(0, width, lanes):
        v = max(0, min(first, width - lanes))
        low, high = first - v, width - v
        x_at, dy_at = base + v, at + v
        for _ in range(height):
            acc = _add_scaled(acc, load_between(dy, dy_at, low, high), memory, places, x_at)
            prefetch(dy, dy_at + following)
            x_at += pitch
            dy_at += width
    _add_to(acc, memory, sums)


@device
def _sum_task(task, row, dy, source, scratch, at):
    """Some channels of one chunk of images; scratch[at:] is the worker's own, its borders are 0."""
    images, channels, chunks, block = item(row, 0), item(row, 1), item(row, 3), item(row, 4)
    height, width, out_height, out_width = item(row, 5), item(row, 6), item(row, 7), item(row, 8)
    pitch, inside, taps = item(row, 9), item(row, 10), item(row, 13)
    lanes = lanes_of(scratch)
    plane, out_plane = height * width, out_height * out_width
    blocks = (channels + block - 1) // block
    chunk, first = task // blocks, task % blocks * block
    used = min(block, channels - first)
    size = taps * lanes
    sums = (chunk * channels + first) * size
    clear(scratch, sums, used * size)
    for n in range(chunk * images // chunks, (chunk + 1) * images // chunks):
        for c in range(used):
            index = n * channels + first + c
            following = 1 if c + 1 < used else 1 + channels - used
            copy_plane(source, index * plane, height, width, following * plane, scratch, at + inside, pitch)
            for tap in range(0, taps, TAPS):
                _sum_plane(scratch, at, pitch, _offsets(row, HEAD + tap), dy, index * out_plane, out_height, out_width,
                           following * out_plane, sums + c * size + tap * lanes)  # fmt: skip


@kernel
def sum_planes(table, dy, x, scratch, dweight):
    """Overwrite dweight (channels, 1, kh, kw). See the plan, `DepthwiseWeight`, for the table."""
    row, dy, x, scratch, dweight = flat(table), flat(dy), flat(x), flat(scratch), flat(dweight)
    channels, workers, chunks, taps, real_taps = row[1], row[2], row[3], row[13], row[14]
    tasks = chunks * ((channels + row[4] - 1) // row[4])
    lanes = lanes_of(scratch)
    for index in prange(workers):
        worker = np.intp(index)
        at = row[11] + worker * row[12]
        clear(scratch, at, row[12])
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            _sum_task(task, row, dy, x, scratch, at)
    for index in prange(channels):
        channel = np.intp(index)
        for tap in range(real_taps):
            at = (channel * taps + tap) * lanes
            total = load(scratch, at)
            for chunk in range(1, chunks):
                total = add(total, load(scratch, at + chunk * channels * taps * lanes))
            dweight[channel * real_taps + tap] = sum_lanes(total)
