"""The kernel behind the forward pass and the input gradient: a correlation of packed planes in register tiles."""

from functools import cache

import numpy as np

from minitrain.kernels.conv2d_pack import clear, fetch, pack
from nbnorm._jit import Kernel, device, kernel, prange
from nbnorm.simd.lanes import item, store_interleaved
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import flat, lanes_of, load

__all__ = ["correlation_kernel", "finish"]

UNROLL = 4  # steps of the reduction in one turn of its loop: the processor issues few instructions beside the products


@device
def _interleave(phases, outs, planes, first, rows, temporary, at, target, to):
    """Put rows [first, first + rows) of all phases, temporary[at:] as [phase][output][row][column], into the result."""
    height, width, columns = planes[2], planes[3], planes[5]
    lanes = lanes_of(target)
    phase = outs * rows * columns
    for k in range(outs):
        for q in range(rows):
            for a in range(min(phases[0], height - (first + q) * phases[0])):
                place = to + (k * height + (first + q) * phases[0] + a) * width
                source = at + a * phases[1] * phase + (k * rows + q) * columns
                if phases[1] == 2:
                    for column in range(0, columns, lanes):
                        even, odd = load(temporary, source + column), load(temporary, source + phase + column)
                        store_interleaved(target, place + 2 * column, even, odd, width - 2 * column)
                else:
                    for b in range(phases[1]):
                        for column in range((width - b + phases[1] - 1) // phases[1]):
                            target[place + b + column * phases[1]] = temporary[source + b * phase + column]


@device
def finish(residual, relu, at, pitch, outs, length, target):
    """Add the residual, if there is one, and apply the ReLU, if asked for, to a band that is still in the cache."""
    for k in range(outs):
        start = at + k * pitch
        row = target[start : start + length]
        if residual.size:
            other = residual[start : start + length]
            for i in range(length):
                row[i] += other[i]
        if relu:
            for i in range(length):
                row[i] = 0 if row[i] <= 0 else row[i]  # keeps NaN


@cache
def correlation_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of pixels."""
    tile = make_tile(rows, columns)
    splat_rows, add_outer, tile_offsets = tile.splat_rows, tile.add_outer, tile.offsets
    load_columns_between, store_columns = tile.load_columns_between, tile.store_columns
    store_columns_between = tile.store_columns_between

    @device
    @tile.named
    def pack_weights(index, problem, places, indices, weight, bias, packed):
        """Tile number `index`: a bias for each of its `rows` outputs, then `rows` weights for each (channel, tap)."""
        outs = problem[3]
        tiles = (outs + rows - 1) // rows
        group, first = index // tiles, min(index % tiles * rows, outs - rows)
        at = index * rows * (1 + indices.size)
        for r in range(rows):
            packed[at + r] = bias[group * outs + first + r] if bias.size else 0
        start = group * places[0] + first * places[1]
        for m in range(indices.size):
            at += rows
            source = start + item(indices, m)
            for r in range(rows):
                packed[at + r] = item(weight, source + r * places[1])

    @device
    @tile.named
    def correlate_band(memory, at, x, base, outs, parts, vectors, vectors_at, count, offsets, starts, target, to,
                       pitch, phase, source, ahead):  # fmt: skip
        """Every output of a band of `count` vectors: output k of phase f into target[to + k * pitch + f * phase:].

        memory[at:] holds the weights, x[base:] the planes. The last tile is moved back to end where the band and the
        outputs end: what it shares with the tile before is computed twice, alike. The sums are made in `parts`, so
        that the part of x that a tile reads is still in the level 1 cache for the next outputs. Meanwhile what the
        next band is packed from is fetched: for each tile, ahead[1] values from source[ahead[0]:] on.
        """
        lanes = lanes_of(target)
        for v in range(0, count, columns):
            v_at = vectors_at + max(0, min(v, count - columns))
            pixels = tile_offsets(vectors, v_at)
            places = tile_offsets(vectors, v_at + max(columns, count))
            counts = tile_offsets(vectors, v_at + 2 * max(columns, count))
            whole = min(counts) == lanes
            for part in range(parts):
                for k in range(0, outs, rows):
                    weights = at + k * (1 + offsets.size)
                    result = to
                    for f in range(part, starts.size - 1, parts):
                        ahead = fetch(source, ahead)
                        start = min(k, outs - rows) * pitch + result
                        result += phase
                        if part == 0:
                            acc = splat_rows(memory, weights)
                        else:
                            acc = load_columns_between(target, start, places, pitch, counts)
                        m, last = item(starts, f), item(starts, f + 1)
                        w = weights + (1 + m) * rows
                        while m + UNROLL <= last:
                            for u in range(UNROLL):
                                acc = add_outer(acc, memory, w + u * rows, x, pixels, base + item(offsets, m + u))
                            w += UNROLL * rows
                            m += UNROLL
                        while m < last:
                            acc = add_outer(acc, memory, w, x, pixels, base + item(offsets, m))
                            w += rows
                            m += 1
                        if whole:
                            store_columns(acc, target, start, places, pitch)
                        else:
                            store_columns_between(acc, target, start, places, pitch, counts)

    @device
    @tile.named
    def correlate_task(task, problem, planes, phases, steps, places, segments, vectors, offsets, starts, source,
                       residual, relu, scratch, at, target):  # fmt: skip
        """One band of rows of one group of a block of images; scratch[at:] is the worker's own."""
        images, groups, channels, outs, _ = problem
        height, width, out_height, out_width, phase_height, phase_width = planes
        row_step, column_step, channel_pitch, block, band, gap, parts, direct = steps
        bands = (phase_height + band - 1) // band
        task, first = task // bands, task % bands * band
        image, group = task // groups * block, task % groups
        some, used = min(block, images - image), min(band, phase_height - first)
        source_pitch, target_pitch = groups * channels * height * width, groups * outs * out_height * out_width
        x, base = source, image * source_pitch + group * channels * height * width
        if not direct:
            if bands > 1:  # whose borders are elsewhere than those of the band before
                clear(scratch, at, places[5])
            for i in range(some):
                pack(source, base + i * source_pitch, height, width, channels, first * row_step, column_step, segments,
                     scratch, at + i * places[5], channel_pitch)  # fmt: skip
            x, base = scratch, at
        elif task == ((images + block - 1) // block) * groups - 1:  # vectors read a little beyond the end of an image
            for i in range(source.size - base):
                scratch[at + i] = source[base + i]
            x, base = scratch, at
        weights = group * ((outs + rows - 1) // rows) * rows * (1 + offsets.size)
        lanes = lanes_of(scratch)
        length = used * phase_width
        count = used * ((phase_width + lanes - 1) // lanes) if gap else (length + lanes - 1) // lanes
        count *= some
        vectors_at = 0 if used == band and some == block else vectors.size - 3 * max(count, columns)
        to = image * target_pitch + group * outs * out_height * out_width
        several = phases[0] * phases[1] > 1
        if several:
            result, place, pitch = scratch, at + places[4], length
        else:
            result, place, pitch = target, to + first * out_width, out_height * out_width
        size = some * channels * height * width if bands == 1 else 0
        tiles = ((count + columns - 1) // columns) * ((outs + rows - 1) // rows) * (starts.size - 1)
        ahead = image * source_pitch + group * channels * height * width + size, size // tiles
        correlate_band(scratch, weights, x, base, outs, parts, vectors, vectors_at, count, offsets, starts, result,
                       place, pitch, outs * length, source, ahead)  # fmt: skip
        for i in range(some):
            if several:
                _interleave(phases, outs, planes, first, used, scratch, place, target, to + i * target_pitch)
                place += phases[0] * phases[1] * outs * length
            elif relu or residual.size:
                finish(residual, relu, place + i * target_pitch, pitch, outs, length, target)

    def correlate(problem, planes, phases, steps, places, segments, vectors, offsets, indices, starts, source,
                  weight, bias, residual, relu, scratch, target):  # fmt: skip
        source, weight, bias, scratch, target = flat(source), flat(weight), flat(bias), flat(scratch), flat(target)
        residual = flat(residual)
        images, groups, _, outs, workers = problem
        for index in prange(groups * ((outs + rows - 1) // rows)):
            pack_weights(np.intp(index), problem, places, indices, weight, bias, scratch)
        tasks = ((images + steps[3] - 1) // steps[3]) * groups * ((planes[4] + steps[4] - 1) // steps[4])
        for index in prange(workers):
            worker = np.intp(index)
            clear(scratch, places[2] + worker * places[3], steps[3] * places[5])
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                correlate_task(task, problem, planes, phases, steps, places, segments, vectors, offsets, starts,
                               source, residual, relu, scratch, places[2] + worker * places[3], target)  # fmt: skip

    return kernel(tile.named(correlate))
