"""The weight gradient of a 3 x 3 convolution in Winograd's form F(4 x 4, 3 x 3): 36 products in place of 144.

    dweight[k, c] = G^T (sum over tiles of (B^T x[c] B) * (A dy[k] A^T)) G

The sums over tiles are, for each of the 36 points, outer products of the channels of x and the outputs of dy: register
tiles, of panels of both that stay in a level 2 cache. Each chunk of images (a matter of shapes, not of threads) has
sums of its own, which are added in the order of the chunks. The matrices and their error: `winograd_transforms`.
"""

import numpy as np

from minitrain.kernels.conv2d.direct.pack import clear, fetch
from minitrain.kernels.conv2d.winograd.pack import place_pixels
from minitrain.kernels.conv2d.winograd.transforms import (
    POINTS,
    TILE,
    WINDOW,
    transform_input,
    transform_output_gradient,
    transform_weight_gradient,
)
from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import LANES_FLOAT32, add, lanes_of, load, store

__all__ = ["sum_winograd"]

UNROLL = 4  # tiles in one turn of the loop
ROWS = LANES_FLOAT32  # channels of a register tile; its other side is one vector of outputs

_tile = make_tile(ROWS, 1)
_zero, _add_outer, _add_to, _store = _tile.zero, _tile.add_outer, _tile.add_to, _tile.store_columns


@device
def _transform_band(source, start, plane, normalization, first_channel, size, used, first, rows, places, memory,
                    buffer, pitch, transform, columns, panel, point, ahead):  # fmt: skip
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
        place_pixels(source, start + c * height * width, height * width, min(lanes, used - c), low * width,
                     high * width, high * width, normalization, first_channel + c, memory, buffer - first * pitch,
                     places)  # fmt: skip
        to = panel + c
        for row in range(rows // TILE):
            for column in range(columns):
                ahead = fetch(source, ahead)
                transform(memory, buffer + TILE * (row * pitch + column * lanes), pitch, memory, to, point)
                to += size
    return ahead


@device
def _add_panels(scratch, x_panel, dy_panel, channels, outs, count, tiles, fresh, sums):
    """Add the outer products of the first `count` columns of both panels to the sums of each point, fresh ones to 0."""
    lanes = lanes_of(scratch)
    for _ in range(POINTS):
        for k in range(0, outs, lanes):
            for c in range(0, channels, ROWS):
                acc = _zero(scratch)
                w, x = x_panel + c, dy_panel + k
                p = 0
                while p + UNROLL <= count:
                    for u in range(UNROLL):
                        acc = _add_outer(acc, scratch, w + u * channels, scratch, (0,), x + u * outs)
                    w += UNROLL * channels
                    x += UNROLL * outs
                    p += UNROLL
                while p < count:
                    acc = _add_outer(acc, scratch, w, scratch, (0,), x)
                    w += channels
                    x += outs
                    p += 1
                if fresh:
                    _store(acc, scratch, sums, (0,), lanes)
                else:
                    _add_to(acc, scratch, sums)
                sums += ROWS * lanes
        sums += lanes
        x_panel += tiles * channels + lanes
        dy_panel += tiles * outs + lanes


@device
def _sum_task(task, problem, planes, blocks, places, x_places, dy_places, dy, x, normalization,
              scratch, at):  # fmt: skip
    """One block of channels and outputs over one chunk of images; scratch[at:] is the worker's own."""
    images, channels, outs, _ = problem
    height, width, out_height, out_width, padding, _ = planes
    chunks, channel_block, out_block, tiles, band, columns = blocks
    sums = task * places[6]
    channel_blocks, out_blocks = (channels + channel_block - 1) // channel_block, (outs + out_block - 1) // out_block
    task, first_out = task // out_blocks, task % out_blocks * out_block
    chunk, first_channel = task // channel_blocks, task % channel_blocks * channel_block
    used, used_outs = min(channel_block, channels - first_channel), min(out_block, outs - first_out)
    lanes = lanes_of(scratch)
    x_pitch, dy_pitch = (TILE * columns + WINDOW - TILE) * lanes, TILE * columns * lanes
    x_at, dy_at, x_panel, dy_panel = at + places[2], at + places[3], at + places[4], at + places[5]
    x_point, dy_point = tiles * channel_block + lanes, tiles * out_block + lanes
    tiles_of_image = (out_height + TILE - 1) // TILE * columns
    x_share = used * height * width // (tiles_of_image * ((used + lanes - 1) // lanes))
    dy_share = used_outs * out_height * out_width // (tiles_of_image * ((used_outs + lanes - 1) // lanes))
    clear(scratch, at, places[4])  # the borders of the buffers
    count, fresh = 0, True
    for n in range(chunk * images // chunks, (chunk + 1) * images // chunks):
        x_start = (n * channels + first_channel) * height * width
        dy_start = (n * outs + first_out) * out_height * out_width
        x_ahead = x_start + channels * height * width, x_share
        dy_ahead = dy_start + outs * out_height * out_width, dy_share
        for row in range(0, out_height, TILE * band):
            rows_of_band = min(band, (out_height - row + TILE - 1) // TILE) * TILE
            x_ahead = _transform_band(
                x, x_start, (height, width), normalization, first_channel, channel_block, used, row - padding,
                rows_of_band + WINDOW - TILE, x_places, scratch, x_at, x_pitch, transform_input, columns,
                x_panel + count * channel_block, x_point, x_ahead,
            )  # fmt: skip
            dy_ahead = _transform_band(
                dy, dy_start, (out_height, out_width), scratch[:0], 0, out_block, used_outs, row, rows_of_band,
                dy_places, scratch, dy_at, dy_pitch, transform_output_gradient, columns,
                dy_panel + count * out_block, dy_point, dy_ahead,
            )  # fmt: skip
            count += rows_of_band // TILE * columns
            if count + band * columns > tiles:
                _add_panels(scratch, x_panel, dy_panel, channel_block, out_block, count, tiles, fresh, sums)
                count, fresh = 0, False
    if count > 0 or fresh:
        _add_panels(scratch, x_panel, dy_panel, channel_block, out_block, count, tiles, fresh, sums)


@device
def _finish(index, problem, blocks, places, scratch, dweight):
    """Add the chunks' sums of `ROWS` channels and a vector of outputs, and transform them into weights."""
    _, channels, outs, _ = problem
    chunks, channel_block, out_block, _, _, _ = blocks
    lanes = lanes_of(scratch)
    out_vectors = (outs + lanes - 1) // lanes
    first, k = index // out_vectors * ROWS, index % out_vectors * lanes
    channel_blocks, out_blocks = (channels + channel_block - 1) // channel_block, (outs + out_block - 1) // out_block
    at = (first // channel_block * out_blocks + k // out_block) * places[6]
    at += k % out_block * channel_block + first % channel_block * lanes
    pitch, point = channel_blocks * out_blocks * places[6], channel_block * out_block + lanes
    for p in range(at, at + POINTS * point, point):
        for i in range(p, p + ROWS * lanes, lanes):
            total = load(scratch, i)
            for chunk in range(1, chunks):
                total = add(total, load(scratch, i + chunk * pitch))
            store(scratch, i, total)
    for c in range(first, min(first + ROWS, channels)):
        transform_weight_gradient(scratch, at, point, scratch, at, point)
        for lane in range(min(lanes, outs - k)):
            for tap in range(9):
                dweight[((k + lane) * channels + c) * 9 + tap] = item(scratch, at + tap * point + lane)
        at += lanes


@kernel
def sum_winograd(problem, planes, blocks, places, x_places, dy_places, dy, x, normalization, scratch, dweight):
    """Overwrite dweight (outs, channels, 3, 3); see the plan, `WinogradWeight`, for the integers.

    x is normalized on the way, unless the normalization is empty: see `place_pixels`.
    """
    dy, x, scratch, dweight, normalization = flat(dy), flat(x), flat(scratch), flat(dweight), flat(normalization)
    _, channels, outs, workers = problem
    chunks, channel_block, out_block, _, _, _ = blocks
    tasks = chunks * ((channels + channel_block - 1) // channel_block) * ((outs + out_block - 1) // out_block)
    for index in prange(workers):
        worker = np.intp(index)
        at = places[0] + worker * places[1]
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            _sum_task(task, problem, planes, blocks, places, x_places, dy_places, dy, x, normalization, scratch, at)
    lanes = lanes_of(scratch)
    for index in prange((channels + ROWS - 1) // ROWS * ((outs + lanes - 1) // lanes)):
        _finish(np.intp(index), problem, blocks, places, scratch, dweight)
