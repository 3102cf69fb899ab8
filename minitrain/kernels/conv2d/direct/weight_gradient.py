"""The weight gradient: products of packed planes with dy, summed over pixels in register tiles.

    dweight[k, c, i, j] = sum of dy[n, k, p, q] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]
                          over images n and pixels (p, q)

In NumPy, for one group, where x has its borders of zeros already::

    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (out_height - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (out_width - 1) * sw + 1, sw)
            dweight[:, :, i, j] = np.einsum("nkpq,ncpq->kc", dy, x[:, :, rows, columns])

The steps from there to the kernel, and what each of them buys:

- Packed planes, as for the forward pass: a tap is an offset, and no pixel has borders to think of.
- A register tile of outputs by (channel, tap) pairs, whose lanes are pixels: each vector of dy meets several pairs,
  each vector of x several outputs, and a sum is a vector until the end of a block of pixels.
- A packed panel of dy for a block of pixels: it is read from a level 1 cache, without tails.
- Blocks of channels: packed planes stay in a level 2 cache until all outputs have read them.
- Chunks of images, a matter of shapes and not of threads, make partial sums, which are added in the order of chunks.
"""

from functools import cache
from typing import Any

import numpy as np

from minitrain.kernels.conv2d.blocks import block_of
from minitrain.kernels.conv2d.direct.pack import Planes, pack
from minitrain.kernels.conv2d.direct.records import weight_cut_of, weight_tables_of
from minitrain.kernels.conv2d.direct.vectors import Vectors
from minitrain.kernels.conv2d.memory import Operand, Run, clear
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.masks import load_between
from nbnorm.simd.memory import flat, item
from nbnorm.simd.tiles import Tile, make_tile
from nbnorm.simd.vectors import lanes_of, store

__all__ = ["BLOCK_VECTORS", "weight_gradient_kernel"]

# Vectors of pixels for which all tiles are summed at a time: a tile's rows of dy, 16 KiB, stay in a level 1 cache of 32
# KiB. Above, they are read from level 2 for each tile of pairs; below, sums over lanes are made more often. Found with
# `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.
BLOCK_VECTORS = 64


@device
def _pack_images(cut, block, segments, image, images, x, scratch, own):
    """Put some images of a block into scratch[own:], if they must be moved. Returns where they are: an Operand."""
    problem, packed = cut.problem, cut.packed
    plane = problem.height * problem.width
    offset = ((image * problem.groups + block.group) * problem.channels + block.channel) * plane
    if packed.in_place:
        return Operand(x, offset)
    for i in range(images):
        planes = Planes(x, offset + i * problem.groups * problem.channels * plane, block.channels,
                        problem.height, problem.width)  # fmt: skip
        pack(planes, np.intp(0), packed.column_stride, segments, scratch, own + i * packed.image, packed.channel)
    return Operand(scratch, own)


@device
def _pack_panel(dy, vectors, panel, panel_pitch, rows):
    """A Run of dy, a row for each output, as [tile of outputs][vector of pixels][row of the tile]; other lanes are 0.

    panel: an Operand; tiles are `panel_pitch` apart. The last tile of outputs is moved back to end with them.
    """
    array, target, tile = dy.array, panel.array, panel.offset
    lanes = lanes_of(target)
    for k in range(0, dy.number, rows):
        first = dy.offset + min(k, dy.number - rows) * dy.pitch
        for v in range(vectors.first, vectors.first + vectors.number):
            pixel = first + item(vectors.table, vectors.pitch + v)
            used = item(vectors.table, 2 * vectors.pitch + v)
            vector = tile + (v - vectors.first) * rows * lanes
            for r in range(rows):
                store(target, vector + r * lanes, load_between(array, pixel + r * dy.pitch, 0, used))
        tile += panel_pitch


def _block_products(tile: Tile) -> tuple[Any, Any]:
    """The functions that add products of a block to sums, and that write the sums, for a register tile."""
    rows, columns, zero, tile_offsets = tile.rows, tile.columns, tile.zero, tile.offsets
    add_products, add_products_between = tile.add_products, tile.add_products_between
    add_lane_sums = tile.add_lane_sums

    @device
    @tile.named
    def add_block(planes, panel, sums, offsets, outs, pairs, whole, rest):
        """Add vectors of pixels, of the `rest` the first lanes only, to the sums in panel.array[sums:].

        planes, panel: two Operands; whole, rest: two Vectors of one table. Sums over lanes are made for each block: to
        keep them as vectors takes more time for loads and stores.
        """
        x, base, memory, vectors = planes.array, planes.offset, panel.array, whole.table
        lanes = lanes_of(memory)
        used = item(vectors, vectors.size - 1)
        tile_panel = panel.offset
        for _ in range(0, outs, rows):
            for m in range(0, pairs, columns):
                acc = zero(memory)
                pair_offsets = tile_offsets(offsets, max(0, min(m, pairs - columns)))
                dy_vector = tile_panel
                for v in range(whole.first, whole.first + whole.number):
                    acc = add_products(acc, memory, dy_vector, x, pair_offsets, base + item(vectors, v))
                    dy_vector += rows * lanes
                for v in range(rest.first, rest.first + rest.number):
                    pixel = base + item(vectors, v)
                    acc = add_products_between(acc, memory, dy_vector, x, pair_offsets, pixel, used)
                    dy_vector += rows * lanes
                add_lane_sums(acc, memory, sums)
                sums += (rows * columns + lanes - 1) // lanes * lanes
            tile_panel += (whole.number + rest.number) * rows * lanes

    @device
    @tile.named
    def write_sums(memory, sums, outs, pairs, target, pitch):
        """Put the sum of pair m and output k into memory[target + k * pitch + m]."""
        lanes = lanes_of(memory)
        for k in range(0, outs, rows):
            for m in range(0, pairs, columns):
                tile_target = target + min(k, outs - rows) * pitch + max(0, min(m, pairs - columns))
                for r in range(rows):
                    for c in range(min(columns, pairs)):
                        memory[tile_target + r * pitch + c] = memory[sums + r * columns + c]
                sums += (rows * columns + lanes - 1) // lanes * lanes

    return add_block, write_sums


@cache
def weight_gradient_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` pairs of a channel and a tap.

    `sum_products(row, dy, x, scratch, dweight)` works from the row of a `WeightGradientCut`.
    """
    tile = make_tile(rows, columns)
    add_block, write_sums = _block_products(tile)

    @device
    @tile.named
    def sum_task(cut, tables, block, dy, x, scratch, own):
        """One block of channels and outputs of one group over one chunk of images; scratch[own:] is the worker's."""
        problem, blocks, taps = cut.problem, cut.blocks, cut.taps
        pixels, lanes, pairs = problem.out_height * problem.out_width, lanes_of(scratch), block.channels * taps
        panel, sums = own + cut.scratch.panel, own + cut.scratch.sums
        pitch = tables.vectors.size // 3
        count = pitch // blocks.images
        whole = pixels // lanes if cut.packed.in_place else count
        tiles = ((block.outs + rows - 1) // rows) * ((pairs + columns - 1) // columns)
        for i in range(tiles * ((rows * columns + lanes - 1) // lanes * lanes)):
            scratch[sums + i] = 0
        last = (block.chunk + 1) * problem.images // blocks.chunks
        for n in range(block.chunk * problem.images // blocks.chunks, last, blocks.images):
            images = min(blocks.images, last - n)
            planes = _pack_images(cut, block, tables.segments, n, images, x, scratch, own)
            first_dy = ((n * problem.groups + block.group) * problem.outs + block.out) * pixels
            dy_rows = Run(dy, first_dy, pixels, block.outs, pixels)
            for v in range(0, max(1, images * whole), BLOCK_VECTORS):
                size = min(BLOCK_VECTORS, images * whole - v)
                rest_size = images * (count - whole) if v + size == images * whole else 0
                vectors = Vectors(tables.vectors, v, size, pitch)
                rest = Vectors(tables.vectors, blocks.images * whole, rest_size, pitch)
                panel_pitch = (size + rest_size) * rows * lanes
                _pack_panel(dy_rows, vectors, Operand(scratch, panel), panel_pitch, rows)
                _pack_panel(dy_rows, rest, Operand(scratch, panel + size * rows * lanes), panel_pitch, rows)
                add_block(planes, Operand(scratch, panel), sums, tables.offsets, block.outs, pairs, vectors, rest)
        target = ((block.chunk * problem.groups + block.group) * problem.outs + block.out) * problem.channels
        write_sums(scratch, sums, block.outs, pairs, (target + block.channel) * taps, problem.channels * taps)

    @device
    @tile.named
    def sum_share(worker, row, dy, x, scratch):
        """The tasks of one worker."""
        cut = weight_cut_of(row)
        tables, problem, blocks = weight_tables_of(row, cut), cut.problem, cut.blocks
        tasks = blocks.chunks * problem.groups * ((problem.channels + blocks.channels - 1) // blocks.channels)
        tasks *= (problem.outs + blocks.outs - 1) // blocks.outs
        own = cut.scratch.workers + worker * cut.scratch.worker
        clear(scratch, own, cut.scratch.panel)
        for task in range(worker * tasks // blocks.workers, (worker + 1) * tasks // blocks.workers):
            sum_task(cut, tables, block_of(task, cut), dy, x, scratch, own)

    def sum_products(row, dy, x, scratch, dweight):
        row, dy, x, scratch, dweight = flat(row), flat(dy), flat(x), flat(scratch), flat(dweight)
        cut = weight_cut_of(row)
        for worker in prange(cut.blocks.workers):
            sum_share(np.intp(worker), row, dy, x, scratch)
        chunks, size = cut.blocks.chunks, cut.problem.channels * cut.taps
        for out in prange(cut.problem.groups * cut.problem.outs):
            for i in range(out * size, (out + 1) * size):
                dweight[i] = scratch[i]
            for chunk in range(1, chunks):
                for i in range(out * size, (out + 1) * size):
                    dweight[i] += scratch[chunk * dweight.size + i]

    return kernel(tile.named(sum_products))
