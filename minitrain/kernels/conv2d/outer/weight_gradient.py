"""The weight gradient for many outputs: outer products of dy and x, pixel by pixel.

    dweight[k, c, i, j] = sum over pixels p of dy[k, p] * x[c, p * stride + (i, j) * dilation - padding]

In NumPy, for one group, where x has its borders of zeros already::

    dweight[:] = 0
    for n in range(images):
        for p in range(out_height):
            for q in range(out_width):
                rows, columns = p * sh + np.arange(kh) * dh, q * sw + np.arange(kw) * dw
                dweight += np.multiply.outer(dy[n, :, p, q], x[n][:, rows[:, None], columns])

The steps from there to the kernel, and what each of them buys:

- Channels last: the values of x that a row of taps reads are one run, and so are some outputs of dy, so that their
  outer product is a register tile. Any stride is a step from pixel to pixel; no pixel has tails.
- Blocks of pixels: what a tile reads stays in a level 1 cache until all tiles have read it.
- Bands of rows, blocks of channels and outputs: transposed x and dy, and the sums, stay in a level 2 cache.
- Fetching ahead: the next image comes from memory while this one is multiplied.
- Chunks of images, a matter of shapes and not of threads, make partial sums, which are added in the order of chunks.
"""

from functools import cache
from typing import Any

import numpy as np

from minitrain.kernels.conv2d.blocks import block_of
from minitrain.kernels.conv2d.memory import Operand, Run, clear, fetch
from minitrain.kernels.conv2d.outer.records import cut_of, lane_weights_of, tables_of, vectors_of
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import Tile, make_tile
from nbnorm.simd.transpose import store_transposed
from nbnorm.simd.vectors import add, lanes_of, load, store

__all__ = ["outer_product_kernel"]

# Pixels in one turn of the loop over them. Fewer spend more instructions beside the products, of which the processor
# issues few; more leave longer rests to the plain loop. Found with `benchmarks.peers conv` on 4 cores of an AVX-512
# Xeon, 2026-11.
UNROLL = 4


@device
def _tasks_of(cut):
    """Number of tasks of one chunk."""
    problem, blocks = cut.problem, cut.blocks
    channel_blocks = (problem.channels + blocks.channels - 1) // blocks.channels
    return problem.groups * channel_blocks * ((problem.outs + blocks.outs - 1) // blocks.outs)


@device
def _transpose(planes, first, size, pixels, packed):
    """Put pixels [first, first + size) of a Run, a plane for each channel, where `pixels` says in an Operand."""
    source, target = planes.array, packed.array
    lanes = lanes_of(target)
    count = min(lanes, size)
    for channel in range(0, planes.number, lanes):
        plane, channels = planes.offset + channel * planes.pitch, min(lanes, planes.number - channel)
        for p in range(0, size, lanes):
            pixel = first + min(p, size - count)
            store_transposed(source, plane + pixel, planes.pitch, channels, count,
                             target, packed.offset + channel, pixels, pixel)  # fmt: skip


@device
def _transpose_band(cut, tables, row, last_row, x, dy, own):
    """Pack rows [row, last_row) of dy and the rows of x that they meet, two Runs, into the worker's own scratch.

    Returns where pixel 0 would be in packed x, and in packed dy.
    """
    problem, rows, scratch = cut.problem, cut.rows, own.array
    if rows.band < problem.out_height:  # the borders are elsewhere than those of the band before
        clear(scratch, own.offset, cut.scratch.x_size)
    low = max(0, row * rows.stride - rows.padding)
    high = min(problem.height, (last_row - 1) * rows.stride + rows.reach - rows.padding)
    packed_x = own.offset - row * rows.stride * rows.pitch
    _transpose(x, low * problem.width, max(0, high - low) * problem.width, tables.x_pixels, Operand(scratch, packed_x))
    first, last = row * problem.out_width, last_row * problem.out_width
    packed_dy = own.offset + cut.scratch.x_size - first * cut.blocks.outs
    _transpose(dy, first, last - first, tables.dy_pixels, Operand(scratch, packed_dy))
    return packed_x, packed_dy


def _pixel_products(tile: Tile) -> Any:
    """The function that adds the products of pixels to the sums of a task, for a register tile."""
    rows, columns, zero, add_outer = tile.rows, tile.columns, tile.zero, tile.add_outer
    tile_offsets, add_to = tile.offsets, tile.add_to

    @device
    @tile.named
    def add_pixels(tables, packed_x, packed_dy, first, last, sums, x, x_ahead, dy, dy_ahead):
        """Add the products of pixels [first, last) to the tiles sums.array[sums.offset:].

        packed_x: the offset of packed x in the same array. packed_dy: a Run there, a pixel for each of its runs of
        outputs. Meanwhile some of the next image is fetched for each tile: see `fetch`.

        The last tile in a direction is moved back to end with it: it has sums of its own, some of them once more.
        """
        memory, vectors, pixels, pitch = sums.array, tables.vectors, tables.pixels, packed_dy.pitch
        lanes, tile_sums = lanes_of(memory), sums.offset
        for v in range(0, vectors.size, columns):
            tile_vectors = tile_offsets(vectors, min(v, vectors.size - columns))
            for k in range(0, packed_dy.length, rows):
                x_ahead = fetch(x, x_ahead)
                dy_ahead = fetch(dy, dy_ahead)
                acc = zero(memory)
                w = packed_dy.offset + first * pitch + min(k, packed_dy.length - rows)
                p = first
                while p + UNROLL <= last:
                    for u in range(UNROLL):
                        x_pixel = packed_x + item(pixels, p + u)
                        acc = add_outer(acc, memory, w + u * pitch, memory, tile_vectors, x_pixel)
                    w += UNROLL * pitch
                    p += UNROLL
                while p < last:
                    acc = add_outer(acc, memory, w, memory, tile_vectors, packed_x + item(pixels, p))
                    w += pitch
                    p += 1
                add_to(acc, memory, tile_sums)
                tile_sums += rows * columns * lanes
        return x_ahead, dy_ahead

    return add_pixels


def _row_finish(tile: Tile) -> Any:
    """The function that makes the weight gradient from the sums of all chunks, for a register tile."""
    rows, columns = tile.rows, tile.columns

    @device
    @tile.named
    def finish_row(index, row, scratch, dweight):
        """Add the chunks' sums of one row of tiles, and put them where they belong in dweight."""
        cut = cut_of(row)
        problem, lanes = cut.problem, lanes_of(scratch)
        vectors, lane_weights = vectors_of(row, cut), lane_weights_of(row, cut)
        row_tiles = (cut.blocks.outs + rows - 1) // rows
        task, k = index // row_tiles, index % row_tiles * rows
        sums, pitch = task * cut.scratch.sums, _tasks_of(cut) * cut.scratch.sums
        block = block_of(task, cut)
        if k >= block.outs:
            return
        size = rows * columns * lanes
        block_tiles = (block.outs + rows - 1) // rows
        for v in range(0, vectors.size, columns):
            tile_sums = sums + (v // columns * block_tiles + k // rows) * size
            for i in range(tile_sums, tile_sums + size, lanes):
                total = load(scratch, i)
                for chunk in range(1, cut.blocks.chunks):
                    total = add(total, load(scratch, i + chunk * pitch))
                store(scratch, i, total)
            first_lane = min(v, vectors.size - columns) * lanes
            out = block.group * problem.outs + block.out + min(k, block.outs - rows)
            weights = out * problem.channels + block.channel
            for r in range(rows):
                for i in range(columns * lanes):
                    weight = item(lane_weights, first_lane + i)
                    if 0 <= weight < block.channels * problem.taps:
                        total = item(scratch, tile_sums + r * columns * lanes + i)
                        dweight[(weights + r * problem.channels) * problem.taps + weight] = total

    return finish_row


@cache
def outer_product_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of a run of channels and taps.

    `sum_outer_products(row, dy, x, scratch, dweight)` works from the row of a `Cut`.
    """
    tile = make_tile(rows, columns)
    add_pixels, finish_row = _pixel_products(tile), _row_finish(tile)

    @device
    @tile.named
    def sum_task(cut, tables, task, dy, x, scratch, own):
        """One block of channels and outputs of one group over one chunk of images; scratch[own:] is the worker's."""
        problem, blocks, block = cut.problem, cut.blocks, block_of(task, cut)
        plane, out_plane = problem.height * problem.width, problem.out_height * problem.out_width
        sums, memory = Operand(scratch, task * cut.scratch.sums), Operand(scratch, own)
        clear(scratch, sums.offset, cut.scratch.sums)
        tiles = ((block.outs + rows - 1) // rows) * ((tables.vectors.size + columns - 1) // columns)
        tiles *= (out_plane + blocks.pixels - 1) // blocks.pixels
        x_share, dy_share = block.channels * plane // tiles + 1, block.outs * out_plane // tiles + 1
        last_image = (block.chunk + 1) * problem.images // blocks.chunks
        for n in range(block.chunk * problem.images // blocks.chunks, last_image):
            group = n * problem.groups + block.group
            first_x = (group * problem.channels + block.channel) * plane
            first_dy = (group * problem.outs + block.out) * out_plane
            x_ahead = (first_x + problem.groups * problem.channels * plane, x_share)
            dy_ahead = (first_dy + problem.groups * problem.outs * out_plane, dy_share)
            x_planes = Run(x, first_x, plane, block.channels, plane)
            dy_planes = Run(dy, first_dy, out_plane, block.outs, out_plane)
            for row in range(0, problem.out_height, cut.rows.band):
                last_row = min(problem.out_height, row + cut.rows.band)
                packed_x, packed_dy = _transpose_band(cut, tables, row, last_row, x_planes, dy_planes, memory)
                dy_pixels = Run(scratch, packed_dy, blocks.outs, out_plane, block.outs)
                first, last = row * problem.out_width, last_row * problem.out_width
                for p in range(first, last, blocks.pixels):
                    x_ahead, dy_ahead = add_pixels(
                        tables, packed_x, dy_pixels, p, min(last, p + blocks.pixels), sums, x, x_ahead, dy, dy_ahead
                    )

    @device
    @tile.named
    def sum_share(worker, row, dy, x, scratch):
        """The tasks of one worker."""
        cut = cut_of(row)
        tables, workers = tables_of(row, cut), cut.blocks.workers
        own = cut.scratch.workers + worker * cut.scratch.worker
        clear(scratch, own, cut.scratch.x_size)
        tasks = _tasks_of(cut) * cut.blocks.chunks
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            sum_task(cut, tables, task, dy, x, scratch, own)

    def sum_outer_products(row, dy, x, scratch, dweight):
        row, dy, x, scratch, dweight = flat(row), flat(dy), flat(x), flat(scratch), flat(dweight)
        cut = cut_of(row)
        for worker in prange(cut.blocks.workers):
            sum_share(np.intp(worker), row, dy, x, scratch)
        for index in prange(_tasks_of(cut) * ((cut.blocks.outs + rows - 1) // rows)):
            finish_row(np.intp(index), row, scratch, dweight)

    return kernel(tile.named(sum_outer_products))
