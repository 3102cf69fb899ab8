"""The weight gradient of a 3 x 3 convolution in Winograd's form F(4 x 4, 3 x 3): 36 products in place of 144.

    dweight[k, c] = G^T (sum over tiles of (B^T x[c] B) * (A dy[k] A^T)) G

The sums over tiles are, for each of the 36 points, an outer product of the channels of x and the outputs of dy: register
tiles of both with channels last. Each chunk of images (a matter of shapes, not of threads) has sums of its own, which
are added in the order of the chunks. Matrices and error: `winograd_transforms`.
"""

from functools import cache

import numpy as np

from minitrain.kernels.conv2d_pack import clear, fetch, place_channels_last
from minitrain.kernels.winograd_transforms import transform_input, transform_output_gradient, transform_weight_gradient
from nbnorm._jit import Kernel, device, kernel, prange
from nbnorm.simd.lanes import item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import LANES_FLOAT32, VECTOR_BYTES, add, flat, lanes_of, load, store

__all__ = ["winograd_weight_kernel"]

UNROLL = 4  # tiles in one turn of the loop
POINTS = 36


@device
def _transform_band(source, start, plane, size, used, first, rows, places, memory, buffer, pitch, transform, columns,
                    panel, point, ahead):  # fmt: skip
    """Transform rows [first, first + rows) of `used` planes (height, width), zeros beyond, into the tiles of a panel.

    A vector of channels at a time goes to the buffer, in rows that are `pitch` values apart, and from there to
    memory[panel:], for each of the points, `point` values apart, tile by tile in rows of `size` channels. Meanwhile
    what comes later is fetched: for each tile, ahead[1] values from source[ahead[0]:] on.
    """
    height, width = plane
    lanes = lanes_of(memory)
    low, high = max(0, first), min(height, first + rows)
    clear(memory, buffer, (low - first) * pitch)
    clear(memory, buffer + (high - first) * pitch, (first + rows - high) * pitch)
    for c in range(0, used, lanes):
        place_channels_last(source, start + c * height * width, height * width, min(lanes, used - c), low * width,
                            (high - low) * width, places, memory, buffer - first * pitch)  # fmt: skip
        to = panel + c
        for row in range(rows // 4):
            for column in range(columns):
                ahead = fetch(source, ahead)
                transform(memory, buffer + 4 * row * pitch + 4 * column * lanes, pitch, memory, to, point)
                to += size
    return ahead


@cache
def winograd_weight_kernel() -> Kernel:
    """The kernel of the weight gradient."""
    rows = LANES_FLOAT32 if VECTOR_BYTES == 64 else 8 if VECTOR_BYTES == 32 else 4
    tile = make_tile(rows, 1)
    zero, add_outer, add_to = tile.zero, tile.add_outer, tile.add_to

    @device
    @tile.named
    def add_panels(scratch, x_panel, dy_panel, channels, outs, count, tiles, sums):
        """Add the outer products of the first `count` columns of both panels to the sums of each point."""
        lanes = lanes_of(scratch)
        for _ in range(POINTS):
            for k in range(0, outs, lanes):
                for c in range(0, channels, rows):
                    acc = zero(scratch)
                    w, x = x_panel + c, dy_panel + k
                    p = 0
                    while p + UNROLL <= count:
                        for u in range(UNROLL):
                            acc = add_outer(acc, scratch, w + u * channels, scratch, (0,), x + u * outs)
                        w += UNROLL * channels
                        x += UNROLL * outs
                        p += UNROLL
                    while p < count:
                        acc = add_outer(acc, scratch, w, scratch, (0,), x)
                        w += channels
                        x += outs
                        p += 1
                    add_to(acc, scratch, sums)
                    sums += rows * lanes
            sums += lanes
            x_panel += tiles * channels + lanes
            dy_panel += tiles * outs + lanes

    @device
    @tile.named
    def sum_task(task, problem, planes, blocks, places, x_places, dy_places, dy, x, scratch, at):
        """One block of channels and outputs over one chunk of images; scratch[at:] is the worker's own."""
        images, channels, outs, _ = problem
        height, width, out_height, out_width, padding, _ = planes
        chunks, channel_block, out_block, tiles, band, columns = blocks
        sums = task * places[5]
        out_blocks, channel_blocks = (outs + out_block - 1) // out_block, (channels + channel_block - 1) // channel_block
        task, first_out = task // out_blocks, task % out_blocks * out_block
        chunk, first_channel = task // channel_blocks, task % channel_blocks * channel_block
        used, used_outs = min(channel_block, channels - first_channel), min(out_block, outs - first_out)
        lanes = lanes_of(scratch)
        x_pitch, dy_pitch = (4 * columns + 2) * lanes, 4 * columns * lanes
        dy_at, x_panel, dy_panel = at + places[2], at + places[3], at + places[4]
        x_point, dy_point = tiles * channel_block + lanes, tiles * out_block + lanes
        tiles_of_image = (out_height + 3) // 4 * columns
        x_share = used * height * width // (tiles_of_image * ((used + lanes - 1) // lanes))
        dy_share = used_outs * out_height * out_width // (tiles_of_image * ((used_outs + lanes - 1) // lanes))
        clear(scratch, sums, places[5])
        clear(scratch, at, places[3])  # the borders of the buffers
        count = 0
        for n in range(chunk * images // chunks, (chunk + 1) * images // chunks):
            x_start = (n * channels + first_channel) * height * width
            dy_start = (n * outs + first_out) * out_height * out_width
            x_ahead = x_start + channels * height * width, x_share
            dy_ahead = dy_start + outs * out_height * out_width, dy_share
            for row in range(0, out_height, 4 * band):
                rows_of_band = 4 * min(band, (out_height - row + 3) // 4)
                x_ahead = _transform_band(x, x_start, (height, width), channel_block, used, row - padding, rows_of_band + 2,
                                x_places, scratch, at, x_pitch, transform_input, columns,
                                x_panel + count * channel_block, x_point, x_ahead)  # fmt: skip
                dy_ahead = _transform_band(dy, dy_start, (out_height, out_width), out_block, used_outs, row, rows_of_band,
                                dy_places, scratch, dy_at, dy_pitch, transform_output_gradient, columns,
                                dy_panel + count * out_block, dy_point, dy_ahead)  # fmt: skip
                count += rows_of_band // 4 * columns
                if count + band * columns > tiles:
                    add_panels(scratch, x_panel, dy_panel, channel_block, out_block, count, tiles, sums)
                    count = 0
        add_panels(scratch, x_panel, dy_panel, channel_block, out_block, count, tiles, sums)

    @device
    @tile.named
    def finish(index, problem, blocks, places, scratch, dweight):
        """Add the chunks' sums of `rows` channels and a vector of outputs, and transform them into weights."""
        _, channels, outs, _ = problem
        chunks, channel_block, out_block, _, _, _ = blocks
        lanes = lanes_of(scratch)
        out_vectors = (outs + lanes - 1) // lanes
        first, k = index // out_vectors * rows, index % out_vectors * lanes
        out_blocks, channel_blocks = (outs + out_block - 1) // out_block, (channels + channel_block - 1) // channel_block
        at = (first // channel_block * out_blocks + k // out_block) * places[5]
        at += k % out_block * channel_block + first % channel_block * lanes
        pitch, point = channel_blocks * out_blocks * places[5], channel_block * out_block + lanes
        for p in range(at, at + POINTS * point, point):
            for i in range(p, p + rows * lanes, lanes):
                total = load(scratch, i)
                for chunk in range(1, chunks):
                    total = add(total, load(scratch, i + chunk * pitch))
                store(scratch, i, total)
        for c in range(first, min(first + rows, channels)):
            transform_weight_gradient(scratch, at, point, scratch, at, point)
            for lane in range(min(lanes, outs - k)):
                for tap in range(9):
                    dweight[((k + lane) * channels + c) * 9 + tap] = item(scratch, at + tap * point + lane)
            at += lanes

    def sum_winograd(problem, planes, blocks, places, x_places, dy_places, dy, x, scratch, dweight):
        dy, x, scratch, dweight = flat(dy), flat(x), flat(scratch), flat(dweight)
        _, channels, outs, workers = problem
        chunks, channel_block, out_block, _, _, _ = blocks
        tasks = chunks * ((channels + channel_block - 1) // channel_block) * ((outs + out_block - 1) // out_block)
        for index in prange(workers):
            worker = np.intp(index)
            at = places[0] + worker * places[1]
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                sum_task(task, problem, planes, blocks, places, x_places, dy_places, dy, x, scratch, at)
        lanes = lanes_of(scratch)
        for index in prange((channels + rows - 1) // rows * ((outs + lanes - 1) // lanes)):
            finish(np.intp(index), problem, blocks, places, scratch, dweight)

    return kernel(tile.named(sum_winograd))
