"""The kernel of the weight gradient: products of packed planes with dy, summed over pixels in register tiles.

The lanes of a vector are pixels, so that a sum is a vector until the end of a block of pixels. Each chunk of images
(a matter of shapes, not of threads) makes partial sums, which are added in the order of the chunks.
"""

from functools import cache

import numpy as np

from minitrain.kernels.conv2d.direct.pack import clear, pack
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import lanes_of, store

__all__ = ["BLOCK_VECTORS", "weight_gradient_kernel"]

BLOCK_VECTORS = 64  # of pixels: the rows of a tile for so many stay in a level 1 cache


@device
def _pack_panel(dy, at, pitch, rows, outs, vectors, first, count, panel, to, stride):
    """dy[at:] as [tile of outputs][vector of pixels][row of the tile], tiles `stride` apart; unused lanes are 0."""
    lanes = lanes_of(panel)
    size = vectors.size // 3
    for k in range(0, outs, rows):
        start = at + min(k, outs - rows) * pitch
        for v in range(first, first + count):
            place, used = start + item(vectors, size + v), item(vectors, 2 * size + v)
            row = to + (v - first) * rows * lanes
            for r in range(rows):
                store(panel, row + r * lanes, load_between(dy, place + r * pitch, 0, used))
        to += stride


@cache
def weight_gradient_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` pairs of a channel and a tap."""
    tile = make_tile(rows, columns)
    zero, tile_offsets, add_lane_sums = tile.zero, tile.offsets, tile.add_lane_sums
    add_products, add_products_between = tile.add_products, tile.add_products_between

    @device
    @tile.named
    def add_block(memory, x, base, panel, sums, offsets, outs, pairs, vectors, first, count, part, parts):
        """Add vectors of pixels [first, first + count), and of [part, part + parts) some lanes, to memory[sums:].

        Sums over lanes are made for each block: to keep them as vectors takes more time for loads and stores.
        """
        lanes = lanes_of(memory)
        used = item(vectors, vectors.size - 1)
        for _ in range(0, outs, rows):
            for m in range(0, pairs, columns):
                acc = zero(memory)
                pair_offsets = tile_offsets(offsets, max(0, min(m, pairs - columns)))
                a = panel
                for v in range(first, first + count):
                    acc = add_products(acc, memory, a, x, pair_offsets, base + item(vectors, v))
                    a += rows * lanes
                for v in range(part, part + parts):
                    acc = add_products_between(acc, memory, a, x, pair_offsets, base + item(vectors, v), used)
                    a += rows * lanes
                add_lane_sums(acc, memory, sums)
                sums += (rows * columns + lanes - 1) // lanes * lanes
            panel += (count + parts) * rows * lanes

    @device
    @tile.named
    def write_sums(memory, sums, outs, pairs, to, pitch):
        """Put the sum of pair m and output k into memory[to + k * pitch + m]."""
        lanes = lanes_of(memory)
        for k in range(0, outs, rows):
            for m in range(0, pairs, columns):
                place = to + min(k, outs - rows) * pitch + max(0, min(m, pairs - columns))
                for r in range(rows):
                    for c in range(min(columns, pairs)):
                        memory[place + r * pitch + c] = memory[sums + r * columns + c]
                sums += (rows * columns + lanes - 1) // lanes * lanes

    @device
    @tile.named
    def sum_task(
        task, taps, problem, planes, steps, blocks, places, segments, vectors, offsets, dy, source, scratch, at
    ):
        """One block of channels and outputs of one group over one chunk of images; scratch[at:] is the worker's own."""
        images, groups, channels, outs, _ = problem
        height, width, out_height, out_width = planes
        column_step, channel_pitch, direct = steps
        chunks, image_block, channel_block, out_block = blocks
        out_blocks = (outs + out_block - 1) // out_block
        task, first_out = task // out_blocks, task % out_blocks * out_block
        channel_blocks = (channels + channel_block - 1) // channel_block
        task, first_channel = task // channel_blocks, task % channel_blocks * channel_block
        chunk, group = task // groups, task % groups
        used = min(channel_block, channels - first_channel)
        used_outs = min(out_block, outs - first_out)
        pixels = out_height * out_width
        pitch = channel_block * channel_pitch
        panel, sums = at + places[2], at + places[3]
        lanes = lanes_of(scratch)
        last = (chunk + 1) * images // chunks
        x = source
        count = vectors.size // 3 // image_block
        whole = pixels // lanes if direct else count
        tiles = ((used_outs + rows - 1) // rows) * ((used * taps + columns - 1) // columns)
        for i in range(tiles * ((rows * columns + lanes - 1) // lanes * lanes)):
            scratch[sums + i] = 0
        for n in range(chunk * images // chunks, last, image_block):
            some = min(image_block, last - n)
            x_at = ((n * groups + group) * channels + first_channel) * height * width
            if not direct:
                for i in range(some):
                    image = x_at + i * groups * channels * height * width
                    pack(source, image, height, width, used, np.intp(0), column_step, segments, scratch, at + i * pitch,
                         channel_pitch)  # fmt: skip
                x, x_at = scratch, at
            start = ((n * groups + group) * outs + first_out) * pixels
            for v in range(0, max(1, some * whole), BLOCK_VECTORS):
                size = min(BLOCK_VECTORS, some * whole - v)
                parts = some * (count - whole) if v + size == some * whole else 0
                stride = (size + parts) * rows * lanes
                _pack_panel(dy, start, pixels, rows, used_outs, vectors, v, size, scratch, panel, stride)
                _pack_panel(dy, start, pixels, rows, used_outs, vectors, image_block * whole, parts, scratch,
                            panel + size * rows * lanes, stride)  # fmt: skip
                add_block(scratch, x, x_at, panel, sums, offsets, used_outs, used * taps, vectors, v, size,
                          image_block * whole, parts)  # fmt: skip
        to = ((chunk * groups + group) * outs + first_out) * channels + first_channel
        write_sums(scratch, sums, used_outs, used * taps, to * taps, channels * taps)

    def sum_products(problem, planes, steps, blocks, places, segments, vectors, offsets, dy, x, scratch, dweight):
        taps = dweight.shape[2] * dweight.shape[3]
        dy, x, scratch, dweight = flat(dy), flat(x), flat(scratch), flat(dweight)
        _, groups, channels, outs, workers = problem
        chunks, _, channel_block, out_block = blocks
        tasks = chunks * groups * ((channels + channel_block - 1) // channel_block)
        tasks *= (outs + out_block - 1) // out_block
        for index in prange(workers):
            worker = np.intp(index)
            clear(scratch, places[0] + worker * places[1], places[2])
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                sum_task(task, taps, problem, planes, steps, blocks, places, segments, vectors, offsets, dy, x,
                         scratch, places[0] + worker * places[1])  # fmt: skip
        size = channels * taps
        for row in prange(groups * outs):
            for i in range(row * size, (row + 1) * size):
                dweight[i] = scratch[i]
            for chunk in range(1, chunks):
                for i in range(row * size, (row + 1) * size):
                    dweight[i] += scratch[chunk * dweight.size + i]

    return kernel(tile.named(sum_products))
