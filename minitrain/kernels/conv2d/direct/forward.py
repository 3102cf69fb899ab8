"""The forward pass and the input gradient: a correlation of packed planes in register tiles.

    y[n, k, p, q] = bias[k] + sum of weight[k, c, i, j] * x[n, c, p * sh - ph + i * dh, q * sw - pw + j * dw]
                              over channels c and taps (i, j)

In NumPy, for one group, where x has its borders of zeros already::

    y = np.empty((images, outs, out_height, out_width))
    y[:] = bias[:, None, None]
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (out_height - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (out_width - 1) * sw + 1, sw)
            y += np.einsum("kc,ncpq->nkpq", weight[:, :, i, j], x[:, :, rows, columns])

The steps from there to the kernel, and what each of them buys:

- Packed planes (`pack`): a tap is an offset, so that the sum is one loop over (channel, tap) pairs without borders.
- A register tile of outputs by vectors of pixels: a weight is used for three vectors, a vector for eight outputs, and
  the sums are not in memory.
- Packed weights (`weights`): what a tile reads next is what lies next.
- Bands of rows and blocks of images: packed planes stay in a level 2 cache until all outputs have read them.
- Chunks of the sum: what a tile reads of x stays in a level 1 cache until the next outputs have read it.
- Phases: an input gradient with a stride is one correlation of stride 1 for each residue, interleaved afterwards.
- Fetching ahead: what the next band is packed from comes from memory while this one is multiplied.
- The epilogue runs on a band that is still in the cache.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.direct.bands import (
    UNROLL,
    Result,
    band_of,
    fetching_of,
    finish_band,
    pack_band,
    vectors_of,
)
from minitrain.kernels.conv2d.direct.records import cut_of, tables_of
from minitrain.kernels.conv2d.epilogue import Epilogue
from minitrain.kernels.conv2d.memory import Operand, clear, fetch
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.memory import flat, item, prefetch_for_store
from nbnorm.simd.tiles import Tile, make_tile
from nbnorm.simd.vectors import lanes_of

__all__ = ["correlation_kernel"]


class Arrays(NamedTuple):
    """What the kernel was called with, as rows."""

    source: Any
    packed: Any
    scratch: Any
    target: Any


def _band_products(tile: Tile) -> Any:
    """The function that multiplies a band with its weights, for a register tile."""
    rows, columns, add_outer, tile_offsets = tile.rows, tile.columns, tile.add_outer, tile.offsets
    splat_rows, load_columns_between = tile.splat_rows, tile.load_columns_between
    store_columns, store_columns_between = tile.store_columns, tile.store_columns_between

    @device
    @tile.named
    def correlate_band(weights, planes, tables, chunks, vectors, outs, result, fetching):
        """Every output of a band: sums over packed weights and packed planes, two Operands, into a Result.

        The last tile is moved back to end where the band and the outputs end: what it shares with the tile before is
        computed twice, alike. The sums are made in chunks, so that the part of x that a tile reads is still in the
        level 1 cache for the next outputs. Meanwhile where the results go is fetched, and what the next band is packed
        from.
        """
        memory, x, base, target, pitch = weights.array, planes.array, planes.offset, result.array, result.pitch
        offsets, starts, source, stretch = tables.offsets, tables.starts, fetching.array, fetching.stretch
        ahead, lanes = (fetching.offset, fetching.share), lanes_of(target)
        for v in range(0, vectors.number, columns):
            first = vectors.first + max(0, min(v, vectors.number - columns))
            pixels = tile_offsets(vectors.table, first)
            result_pixels = tile_offsets(vectors.table, first + vectors.pitch)
            counts = tile_offsets(vectors.table, first + 2 * vectors.pitch)
            whole = min(counts) == lanes
            for chunk in range(chunks):
                for k in range(0, outs, rows):
                    tile_weights = weights.offset + k * (1 + offsets.size)
                    phase = result.offset
                    for f in range(chunk, starts.size - 1, chunks):
                        y = min(k, outs - rows) * pitch + phase
                        phase += result.phase_pitch
                        if chunk == 0:
                            for r in range(rows):
                                for pixel in result_pixels:
                                    prefetch_for_store(target, y + r * pitch + pixel)
                            acc = splat_rows(memory, tile_weights)
                        else:
                            acc = load_columns_between(target, y, result_pixels, pitch, counts)
                        m, last = item(starts, f), item(starts, f + 1)
                        w = tile_weights + (1 + m) * rows
                        for stop in range(m + stretch, last + stretch, stretch):
                            ahead = fetch(source, ahead)
                            while m + UNROLL <= min(stop, last):
                                for u in range(UNROLL):
                                    acc = add_outer(acc, memory, w + u * rows, x, pixels, base + item(offsets, m + u))
                                w += UNROLL * rows
                                m += UNROLL
                        while m < last:
                            acc = add_outer(acc, memory, w, x, pixels, base + item(offsets, m))
                            w += rows
                            m += 1
                        if whole:
                            store_columns(acc, target, y, result_pixels, pitch)
                        else:
                            store_columns_between(acc, target, y, result_pixels, pitch, counts)

    return correlate_band


@cache
def correlation_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of pixels.

    `correlate(row, source, packed, residual, affine, relu, scratch, target)` works from the row of a `Cut`.
    """
    tile = make_tile(rows, columns)
    correlate_band = _band_products(tile)

    @device
    @tile.named
    def correlate_task(cut, tables, band, split, planes, arrays, epilogue, own):
        """One band, for one of the parts that the outputs are split into, from its packed planes, an Operand."""
        problem, phases, splits = cut.problem, cut.phases, cut.bands.splits
        tiles = (problem.outs + rows - 1) // rows
        first_tile, last_tile = split * tiles // splits, (split + 1) * tiles // splits
        first_out = first_tile * rows
        outs = min(problem.outs, last_tile * rows) - first_out
        weights = Operand(arrays.packed, (band.group * tiles + first_tile) * rows * (1 + tables.offsets.size))
        vectors = vectors_of(cut, tables.vectors, band, lanes_of(arrays.scratch), columns)
        length, plane = band.rows * phases.width, problem.out_height * problem.out_width
        if phases.rows * phases.columns > 1:
            result = Result(arrays.scratch, own + cut.scratch.results, length, problem.outs * length)
        else:
            channel = (band.image * problem.groups + band.group) * problem.outs + first_out
            result = Result(arrays.target, channel * plane + band.row * problem.out_width, plane, problem.outs * length)
        all_tiles = ((vectors.number + columns - 1) // columns) * tiles
        fetching = fetching_of(cut, tables, band, all_tiles, arrays.source)
        correlate_band(weights, planes, tables, cut.bands.chunks, vectors, outs, result, fetching)
        finish_band(cut, band, first_out, outs, result, epilogue, arrays.target)

    @device
    @tile.named
    def correlate_share(worker, row, arrays, epilogue):
        """The tasks of one worker. The parts of a band's outputs follow each other, so that it is packed once."""
        cut = cut_of(row)
        tables, problem, bands = tables_of(row, cut), cut.problem, cut.bands
        blocks = (problem.images + bands.images - 1) // bands.images
        tasks = blocks * problem.groups * ((cut.phases.height + bands.rows - 1) // bands.rows) * bands.splits
        own = worker * cut.scratch.worker
        clear(arrays.scratch, own, bands.images * cut.packed.image)
        planes, before = Operand(arrays.scratch, own), np.intp(-1)
        for task in range(worker * tasks // bands.workers, (worker + 1) * tasks // bands.workers):
            index = task // bands.splits
            band = band_of(index, cut)
            if index != before:
                planes, before = pack_band(cut, tables, band, arrays.source, arrays.scratch, own), index
            correlate_task(cut, tables, band, task % bands.splits, planes, arrays, epilogue, own)

    def correlate(row, source, packed, residual, affine, relu, scratch, target):
        row, source, packed, residual = flat(row), flat(source), flat(packed), flat(residual)
        affine, scratch, target = flat(affine), flat(scratch), flat(target)
        for worker in prange(cut_of(row).bands.workers):
            arrays, epilogue = Arrays(source, packed, scratch, target), Epilogue(residual, relu, affine)
            correlate_share(np.intp(worker), row, arrays, epilogue)

    return kernel(tile.named(correlate))
