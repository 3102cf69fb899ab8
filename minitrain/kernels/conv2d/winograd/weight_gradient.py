"""The weight gradient of a 3 x 3 convolution in Winograd's form F(4 x 4, 3 x 3): 36 products in place of 144.

    dweight[k, c] = G^T [sum over tiles of (B^T x[c] B) * (A dy[k] A^T)] G

In plain NumPy, with the matrices of `transforms`, for x and dy already between zeros, of whole tiles::

    bt, g, at = matrices()
    sums = np.zeros((dy.shape[1], x.shape[1], 6, 6))
    for p in range(0, dy.shape[2], 4):
        for q in range(0, dy.shape[3], 4):
            v = bt @ x[:, :, p : p + 6, q : q + 6] @ bt.T
            m = at.T @ dy[:, :, p : p + 4, q : q + 4] @ at
            sums += np.einsum("nkij,ncij->kcij", m, v)
    dweight = g.T @ sums @ g

The steps from there to here, and what each is for:

- the sums over tiles are, for each of the 36 points, outer products of channels of x and outputs of dy: register tiles;
- they read panels of both sides, of as many transformed tiles as stay in a level 2 cache with a block of the sums;
- each chunk of images (a matter of shapes, not of threads) has sums of its own, added in their order: same bits always;
- the next image is fetched while this one is transformed.
"""

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.memory import clear, fetch
from minitrain.kernels.conv2d.winograd.pack import Channels, Packed, place_pixels
from minitrain.kernels.conv2d.winograd.transforms import (
    BORDER,
    POINTS,
    TAPS,
    TILE,
    transform_input,
    transform_output_gradient,
    transform_weight_gradient,
)
from minitrain.kernels.conv2d.winograd.weight_cut import WinogradWeightCut
from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, size_of
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import LANES_FLOAT32, add, lanes_of, load, store

__all__ = ["sum_winograd"]

UNROLL = 4  # tiles in one turn of the loop over them: fewer leave the processor more to do than products
ROWS = LANES_FLOAT32  # channels of a register tile; its other side is one vector of outputs
AREA = TAPS * TAPS

_tile = make_tile(ROWS, 1)
_zero, _add_outer, _add_to, _store = _tile.zero, _tile.add_outer, _tile.add_to, _tile.store_columns

cut_of = record(WinogradWeightCut)
PIXELS = size_of(WinogradWeightCut)  # where the offsets of the pixels begin in the row


class Arrays(NamedTuple):
    """What `sum_winograd` is given, each array as one row."""

    dy: Any
    x: Any
    normalization: Any
    scratch: Any


class Side(NamedTuple):
    """One side of the products, x or dy: `used` channels, from `first` on, of `all_channels` planes of an image.

    The offsets are those of a vector of channels in the worker's scratch and of the panel, which has `block` channels
    for each tile, the last of them perhaps zeros, and `point` values from one point to the next.
    """

    array: Any
    normalization: Any
    pixels: Any
    height: int
    width: int
    all_channels: int
    first: int
    used: int
    buffer: int
    row_size: int
    panel: int
    block: int
    point: int


@device
def _sides(task, cut, row, arrays, worker):
    """x and dy for a block of channels and one of outputs; `worker` is where its own scratch begins."""
    planes, blocks, memory = cut.planes, cut.blocks, cut.memory
    out, channel = task % blocks.out_blocks, task // blocks.out_blocks % blocks.channel_blocks
    first_out, first_channel = out * blocks.out_block, channel * blocks.channel_block
    lanes, dy_pixels = lanes_of(arrays.scratch), PIXELS + planes.height * planes.width
    x_side = Side(
        arrays.x, arrays.normalization, flat(row[PIXELS:dy_pixels]), planes.height, planes.width, blocks.channels,
        first_channel, min(blocks.channel_block, blocks.channels - first_channel), worker + memory.x_buffer,
        memory.x_row, worker + memory.x_panel, blocks.channel_block, blocks.tiles * blocks.channel_block + lanes,
    )  # fmt: skip
    dy_side = Side(
        arrays.dy, arrays.scratch[:0], flat(row[dy_pixels:]), planes.out_height, planes.out_width, blocks.outs,
        first_out, min(blocks.out_block, blocks.outs - first_out), worker + memory.dy_buffer, memory.dy_row,
        worker + memory.dy_panel, blocks.out_block, blocks.tiles * blocks.out_block + lanes,
    )  # fmt: skip
    return x_side, dy_side


@device
def _transform_band(transform, side, image, first, rows, columns, count, memory, ahead):
    """Transform rows [first, first + rows) of an image's planes, zeros beyond, to the panel's tiles from `count` on.

    A vector of channels at a time goes to the buffer, and from there to the panel, tile by tile. Meanwhile what comes
    later is fetched: for each tile, ahead[1] values from ahead[0] on.
    """
    height, width, pitch = side.height, side.width, side.row_size
    lanes, plane_size = lanes_of(memory), height * width
    low, high = max(0, first), min(height, first + rows)
    clear(memory, side.buffer, (low - first) * pitch)
    clear(memory, side.buffer + (high - first) * pitch, (first + rows - high) * pitch)
    start = (image * side.all_channels + side.first) * plane_size
    packed = Packed(memory, side.buffer - first * pitch, side.pixels)
    for c in range(0, side.used, lanes):
        channels = Channels(side.array, start + c * plane_size, plane_size, min(lanes, side.used - c),
                            side.normalization, side.first + c)  # fmt: skip
        place_pixels(channels, low * width, high * width, high * width, packed)
        points = side.panel + count * side.block + c
        for row in range(rows // TILE):
            for column in range(columns):
                ahead = fetch(side.array, ahead)
                tile = side.buffer + TILE * (row * pitch + column * lanes)
                transform(memory, tile, pitch, memory, points, side.point)
                points += side.block
    return ahead


@device
def _add_panels(memory, x, dy, count, fresh, sums):
    """Add the outer products of the first `count` tiles of both panels to the sums of each point, fresh ones to 0."""
    lanes = lanes_of(memory)
    x_panel, dy_panel = x.panel, dy.panel
    for _ in range(POINTS):
        for k in range(0, dy.block, lanes):
            for c in range(0, x.block, ROWS):
                acc = _zero(memory)
                x_tile, dy_tile = x_panel + c, dy_panel + k
                p = 0
                while p + UNROLL <= count:
                    for u in range(UNROLL):
                        acc = _add_outer(acc, memory, x_tile + u * x.block, memory, (0,), dy_tile + u * dy.block)
                    x_tile += UNROLL * x.block
                    dy_tile += UNROLL * dy.block
                    p += UNROLL
                while p < count:
                    acc = _add_outer(acc, memory, x_tile, memory, (0,), dy_tile)
                    x_tile += x.block
                    dy_tile += dy.block
                    p += 1
                if fresh:
                    _store(acc, memory, sums, (0,), lanes)
                else:
                    _add_to(acc, memory, sums)
                sums += ROWS * lanes
        sums += lanes
        x_panel += x.point
        dy_panel += dy.point


@device
def _share(side, tiles, lanes):
    """Values that are fetched at each tile, so that all tiles of an image together fetch the next one."""
    return side.used * side.height * side.width // (tiles * ((side.used + lanes - 1) // lanes))


@device
def _sum_task(task, cut, row, arrays, worker):
    """One block of channels and outputs over one chunk of images; scratch[worker:] is the worker's own."""
    scratch, planes, blocks = arrays.scratch, cut.planes, cut.blocks
    x, dy = _sides(task, cut, row, arrays, worker)
    chunk, columns = task // blocks.out_blocks // blocks.channel_blocks, blocks.tile_columns
    sums, image_tiles = task * cut.memory.sums, (planes.out_height + TILE - 1) // TILE * columns
    lanes = lanes_of(scratch)
    x_share, dy_share = _share(x, image_tiles, lanes), _share(dy, image_tiles, lanes)
    clear(scratch, worker, cut.memory.x_panel)  # the borders of the buffers
    count, fresh = 0, True
    for n in range(chunk * blocks.images // blocks.chunks, (chunk + 1) * blocks.images // blocks.chunks):
        x_ahead = ((n + 1) * blocks.channels + x.first) * planes.height * planes.width, x_share
        dy_ahead = ((n + 1) * blocks.outs + dy.first) * planes.out_height * planes.out_width, dy_share
        for row_of_band in range(0, planes.out_height, TILE * blocks.tile_rows):
            tile_rows = min(blocks.tile_rows, (planes.out_height - row_of_band + TILE - 1) // TILE)
            x_ahead = _transform_band(transform_input, x, n, row_of_band - planes.above, tile_rows * TILE + BORDER,
                                      columns, count, scratch, x_ahead)  # fmt: skip
            dy_ahead = _transform_band(transform_output_gradient, dy, n, row_of_band, tile_rows * TILE, columns, count,
                                       scratch, dy_ahead)  # fmt: skip
            count += tile_rows * columns
            if count + blocks.tile_rows * columns > blocks.tiles:
                _add_panels(scratch, x, dy, count, fresh, sums)
                count, fresh = 0, False
    if count > 0 or fresh:
        _add_panels(scratch, x, dy, count, fresh, sums)


@device
def _sum_share(index, row, arrays):
    """The tasks of one worker."""
    cut = cut_of(row)
    tasks = cut.blocks.chunks * cut.blocks.channel_blocks * cut.blocks.out_blocks
    worker = cut.memory.workers + index * cut.memory.size
    for task in range(index * tasks // cut.workers, (index + 1) * tasks // cut.workers):
        _sum_task(task, cut, row, arrays, worker)


@device
def _finish(index, row, scratch, dweight):
    """Add the chunks' sums of `ROWS` channels and a vector of outputs, and transform them into weights."""
    cut, lanes = cut_of(row), lanes_of(scratch)
    blocks, size = cut.blocks, cut.memory.sums
    out_vectors = (blocks.outs + lanes - 1) // lanes
    first, k = index // out_vectors * ROWS, index % out_vectors * lanes
    block = first // blocks.channel_block * blocks.out_blocks + k // blocks.out_block
    sums = block * size + k % blocks.out_block * blocks.channel_block + first % blocks.channel_block * lanes
    pitch, point = blocks.channel_blocks * blocks.out_blocks * size, blocks.channel_block * blocks.out_block + lanes
    for p in range(sums, sums + POINTS * point, point):
        for i in range(p, p + ROWS * lanes, lanes):
            total = load(scratch, i)
            for chunk in range(1, blocks.chunks):
                total = add(total, load(scratch, i + chunk * pitch))
            store(scratch, i, total)
    for c in range(first, min(first + ROWS, blocks.channels)):
        transform_weight_gradient(scratch, sums, point, scratch, sums, point)
        for lane in range(min(lanes, blocks.outs - k)):
            for tap in range(AREA):
                dweight[((k + lane) * blocks.channels + c) * AREA + tap] = item(scratch, sums + tap * point + lane)
        sums += lanes


@kernel
def sum_winograd(row, dy, x, normalization, scratch, dweight):
    """Overwrite dweight (outs, channels, 3, 3); see `WinogradWeight` for the row.

    x is normalized on the way, unless the normalization is empty: see `Channels`.
    """
    row, dy, x, scratch, dweight = flat(row), flat(dy), flat(x), flat(scratch), flat(dweight)
    normalization = flat(normalization)
    for index in prange(cut_of(row).workers):
        _sum_share(np.intp(index), row, Arrays(dy, x, normalization, scratch))
    blocks, lanes = cut_of(row).blocks, lanes_of(scratch)
    for index in prange((blocks.channels + ROWS - 1) // ROWS * ((blocks.outs + lanes - 1) // lanes)):
        _finish(np.intp(index), row, scratch, dweight)
