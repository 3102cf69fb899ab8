"""The kernel of the weight gradient for many outputs: outer products of dy and x, pixel by pixel.

    dweight[k, c, i, j] = sum over pixels p of dy[k, p] * x[c, p * stride + (i, j) * dilation - padding]

With channels last, the values of x that a row of taps reads are one run, and so are some outputs of dy: their outer
product is a register tile, which sums over pixels. Any stride is a step from pixel to pixel. Each chunk of images (a
matter of shapes, not of threads) makes partial sums, which are added in the order of the chunks.
"""

from functools import cache

import numpy as np

from minitrain.kernels.conv2d.direct.pack import clear, fetch
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.transpose import store_transposed
from nbnorm.simd.vectors import add, lanes_of, load, store

__all__ = ["outer_product_kernel"]

UNROLL = 4  # pixels in one turn of the loop


@device
def _transpose(source, at, pitch, rows, first, size, places, target, to):
    """Put pixels [first, first + size) of `rows` channels, `pitch` apart, at target[to + places[pixel]:]."""
    lanes = lanes_of(target)
    count = min(lanes, size)
    for row in range(0, rows, lanes):
        start, some = at + row * pitch, min(lanes, rows - row)
        for p in range(0, size, lanes):
            pixel = first + min(p, size - count)
            store_transposed(source, start + pixel, pitch, some, count, target, to + row, places, pixel)


@cache
def outer_product_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of a run of channels and taps."""
    tile = make_tile(rows, columns)
    zero, add_outer, tile_offsets, add_to = tile.zero, tile.add_outer, tile.offsets, tile.add_to

    @device
    @tile.named
    def add_pixels(
        memory, x, panel, outs, used_outs, vectors, pixels, first, last, sums, source, source_ahead, dy, dy_ahead
    ):
        """Add the products of pixels [first, last) to the tiles memory[sums:], from memory[x:] and memory[panel:].

        Meanwhile some of the next image is fetched: for each tile, ahead[1] values from source[ahead[0]:] on.

        The last tile in a direction is moved back to end with it: it has sums of its own, some of them once more.
        """
        lanes = lanes_of(memory)
        for v in range(0, vectors.size, columns):
            tile_vectors = tile_offsets(vectors, min(v, vectors.size - columns))
            for k in range(0, used_outs, rows):
                source_ahead = fetch(source, source_ahead)
                dy_ahead = fetch(dy, dy_ahead)
                acc = zero(memory)
                w = panel + first * outs + min(k, used_outs - rows)
                p = first
                while p + UNROLL <= last:
                    for u in range(UNROLL):
                        acc = add_outer(acc, memory, w + u * outs, memory, tile_vectors, x + item(pixels, p + u))
                    w += UNROLL * outs
                    p += UNROLL
                while p < last:
                    acc = add_outer(acc, memory, w, memory, tile_vectors, x + item(pixels, p))
                    w += outs
                    p += 1
                add_to(acc, memory, sums)
                sums += rows * columns * lanes
        return source_ahead, dy_ahead

    @device
    @tile.named
    def sum_task(task, problem, planes, steps, blocks, places, vectors, pixels, x_places, dy_places, dy, source,
                 scratch, at):  # fmt: skip
        """One block of channels and outputs of one group over one chunk of images; scratch[at:] is the worker's own."""
        images, groups, channels, outs, _ = problem
        height, width, out_height, out_width = planes
        row_step, row_reach, padding, row_size, band = steps
        chunks, channel_block, out_block, pixel_block = blocks
        out_blocks = (outs + out_block - 1) // out_block
        channel_blocks = (channels + channel_block - 1) // channel_block
        sums = task * places[4]
        task, first_out = task // out_blocks, task % out_blocks * out_block
        task, first_channel = task // channel_blocks, task % channel_blocks * channel_block
        chunk, group = task // groups, task % groups
        used, used_outs = min(channel_block, channels - first_channel), min(out_block, outs - first_out)
        clear(scratch, sums, places[4])
        tiles = ((used_outs + rows - 1) // rows) * ((vectors.size + columns - 1) // columns)
        tiles *= (out_height * out_width + pixel_block - 1) // pixel_block
        x_share, dy_share = used * height * width // tiles + 1, used_outs * out_height * out_width // tiles + 1
        for n in range(chunk * images // chunks, (chunk + 1) * images // chunks):
            x_at = ((n * groups + group) * channels + first_channel) * height * width
            dy_at = ((n * groups + group) * outs + first_out) * out_height * out_width
            x_next, dy_next = x_at + groups * channels * height * width, dy_at + groups * outs * out_height * out_width
            x_ahead, dy_ahead = (x_next, x_share), (dy_next, dy_share)
            for row in range(0, out_height, band):
                if band < out_height:  # the borders are elsewhere than those of the band before
                    clear(scratch, at, places[2])
                last_row = min(out_height, row + band)
                low = max(0, row * row_step - padding)
                high = min(height, (last_row - 1) * row_step + row_reach - padding)
                x = at - row * row_step * row_size
                _transpose(source, x_at, height * width, used, low * width, max(0, high - low) * width, x_places,
                           scratch, x)  # fmt: skip
                first, last = row * out_width, last_row * out_width
                panel = at + places[3] - first * out_block
                _transpose(dy, dy_at, out_height * out_width, used_outs, first, last - first, dy_places, scratch, panel)
                for p in range(first, last, pixel_block):
                    x_ahead, dy_ahead = add_pixels(
                        scratch, x, panel, out_block, used_outs, vectors, pixels, p, min(last, p + pixel_block), sums,
                        source, x_ahead, dy, dy_ahead
                    )  # fmt: skip

    @device
    @tile.named
    def finish_row(index, problem, blocks, places, vectors, lane_places, taps, scratch, dweight):
        """Add the chunks' sums of one row of tiles, and put them where they belong in dweight."""
        _, groups, channels, outs, _ = problem
        chunks, channel_block, out_block, _ = blocks
        lanes = lanes_of(scratch)
        out_blocks = (outs + out_block - 1) // out_block
        channel_blocks = (channels + channel_block - 1) // channel_block
        row_tiles = (out_block + rows - 1) // rows
        task, k = index // row_tiles, index % row_tiles * rows
        sums, pitch = task * places[4], groups * channel_blocks * out_blocks * places[4]
        task, first_out = task // out_blocks, task % out_blocks * out_block
        group, first_channel = task // channel_blocks, task % channel_blocks * channel_block
        used, used_outs = min(channel_block, channels - first_channel), min(out_block, outs - first_out)
        if k >= used_outs:
            return
        size = rows * columns * lanes
        used_tiles = (used_outs + rows - 1) // rows
        for v in range(0, vectors.size, columns):
            at = sums + (v // columns * used_tiles + k // rows) * size
            for i in range(at, at + size, lanes):
                total = load(scratch, i)
                for chunk in range(1, chunks):
                    total = add(total, load(scratch, i + chunk * pitch))
                store(scratch, i, total)
            first = min(v, vectors.size - columns) * lanes
            to = (group * outs + first_out + min(k, used_outs - rows)) * channels + first_channel
            for r in range(rows):
                for i in range(columns * lanes):
                    place = item(lane_places, first + i)
                    if 0 <= place < used * taps:
                        dweight[(to + r * channels) * taps + place] = item(scratch, at + r * columns * lanes + i)

    def sum_outer_products(problem, planes, steps, blocks, places, vectors, lane_places, pixels, x_places, dy_places,
                           dy, x, scratch, dweight):  # fmt: skip
        taps = dweight.shape[2] * dweight.shape[3]
        dy, x, scratch, dweight = flat(dy), flat(x), flat(scratch), flat(dweight)
        _, groups, channels, outs, workers = problem
        chunks, channel_block, out_block, _ = blocks
        tasks = groups * ((channels + channel_block - 1) // channel_block) * ((outs + out_block - 1) // out_block)
        for index in prange(workers):
            worker = np.intp(index)
            at = places[0] + worker * places[1]
            clear(scratch, at, places[2])
            for task in range(worker * tasks * chunks // workers, (worker + 1) * tasks * chunks // workers):
                sum_task(task, problem, planes, steps, blocks, places, vectors, pixels, x_places, dy_places, dy, x,
                         scratch, at)  # fmt: skip
        for index in prange(tasks * ((out_block + rows - 1) // rows)):
            finish_row(np.intp(index), problem, blocks, places, vectors, lane_places, taps, scratch, dweight)

    return kernel(tile.named(sum_outer_products))
