"""The kernel behind the forward pass and the input gradient: a correlation of packed planes in register tiles."""

from functools import cache

import numpy as np

from minitrain.kernels.conv2d.direct.pack import clear, fetch, pack
from minitrain.kernels.conv2d.direct.table import phases_of, places_of, planes_of, problem_of, steps_of, tables_of
from nbnorm.jit import Kernel, device, kernel, prange
from nbnorm.simd.masks import store_interleaved
from nbnorm.simd.memory import flat, item, prefetch_for_store
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import lanes_of, load

__all__ = ["correlation_kernel", "finish"]

UNROLL = 4  # steps of the reduction in one turn of its loop: the processor issues few instructions beside the products
BURST = 512  # values that are fetched ahead at once, at most: a sum that would fetch more does so in each turn


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
def finish(residual, relu, affine, channel, at, pitch, outs, length, target):
    """Finish a band that is still in the cache: add the residual, apply the ReLU, scale and shift, what there is.

    affine: a scale for each channel, then a shift for each; `channel` is that of the first output.
    """
    if not (residual.size or relu or affine.size):
        return
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
        if affine.size:
            scale, shift = item(affine, channel + k), item(affine, affine.size // 2 + channel + k)
            for i in range(length):
                row[i] = row[i] * scale + shift


@device
def _stretches(starts, size):
    """Number of stretches of `size` terms and less in all sums."""
    total = np.intp(0)
    for f in range(starts.size - 1):
        total += (item(starts, f + 1) - item(starts, f) + size - 1) // size
    return total


@cache
def correlation_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of pixels."""
    tile = make_tile(rows, columns)
    splat_rows, add_outer, tile_offsets = tile.splat_rows, tile.add_outer, tile.offsets
    load_columns_between, store_columns = tile.load_columns_between, tile.store_columns
    store_columns_between = tile.store_columns_between

    @device
    @tile.named
    def correlate_band(memory, at, x, base, outs, parts, vectors, vectors_at, count, offsets, starts, target, to,
                       pitch, phase, source, ahead, stretch):  # fmt: skip
        """Every output of a band of `count` vectors: output k of phase f into target[to + k * pitch + f * phase:].

        memory[at:] holds the packed weights, x[base:] the planes. The last tile is moved back to end where the band and
        the outputs end: what it shares with the tile before is computed twice, alike. The sums are made in `parts`, so
        that the part of x that a tile reads is still in the level 1 cache for the next outputs. Meanwhile where the
        results go is fetched, and what the next band is packed from: for each stretch of the sums of a tile ahead[1]
        values from source[ahead[0]:] on.
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
                        start = min(k, outs - rows) * pitch + result
                        result += phase
                        if part == 0:
                            for r in range(rows):
                                for place in places:
                                    prefetch_for_store(target, start + r * pitch + place)
                            acc = splat_rows(memory, weights)
                        else:
                            acc = load_columns_between(target, start, places, pitch, counts)
                        m, last = item(starts, f), item(starts, f + 1)
                        w = weights + (1 + m) * rows
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
                            store_columns(acc, target, start, places, pitch)
                        else:
                            store_columns_between(acc, target, start, places, pitch, counts)

    @device
    @tile.named
    def pack_source(image, group, first, row, source, scratch, at):
        """Put what a band of a block of images is computed from into scratch[at:], if it must be moved.

        Returns whether scratch holds it now, and where it begins there or in the source.
        """
        images, groups, channels, _, _ = problem_of(row)
        height, width, _, _, phase_height, _ = planes_of(row)
        row_step, column_step, channel_pitch, block, band, _, _, direct, _ = steps_of(row)
        _, _, image_size = places_of(row)
        segments, _, _, _ = tables_of(row)
        pitch = groups * channels * height * width
        base = image * pitch + group * channels * height * width
        some = min(block, images - image)
        if not direct:
            if band < phase_height:  # the borders are elsewhere than those of the band before
                clear(scratch, at, image_size)
            for i in range(some):
                pack(source, base + i * pitch, height, width, channels, first * row_step, column_step, segments,
                     scratch, at + i * image_size, channel_pitch)  # fmt: skip
            return True, at
        if group == groups - 1 and image + some == images:  # vectors read a little beyond the end of an image
            for i in range(source.size - base):
                scratch[at + i] = source[base + i]
            return True, at
        return False, base

    @device
    @tile.named
    def correlate_task(image, group, first, split, row, x, base, source, packed, residual, affine, relu, scratch, at,
                       target):  # fmt: skip
        """One band of rows of one group of a block of images, for one of the parts that the outputs are split into."""
        images, groups, channels, outs, _ = problem_of(row)
        height, width, out_height, out_width, phase_height, phase_width = planes_of(row)
        _, _, _, block, band, gap, parts, _, splits = steps_of(row)
        _, temporary, _ = places_of(row)
        _, vectors, offsets, starts = tables_of(row)
        phases = phases_of(row)
        some, used = min(block, images - image), min(band, phase_height - first)
        tiles = (outs + rows - 1) // rows
        tile_from, tile_to = split * tiles // splits, (split + 1) * tiles // splits
        weights = (group * tiles + tile_from) * rows * (1 + offsets.size)
        out = tile_from * rows
        outs_of_task = min(outs, tile_to * rows) - out
        lanes = lanes_of(scratch)
        length = used * phase_width
        count = used * ((phase_width + lanes - 1) // lanes) if gap else (length + lanes - 1) // lanes
        count *= some
        vectors_at = 0 if used == band and some == block else vectors.size - 3 * max(count, columns)
        target_pitch = groups * outs * out_height * out_width
        channel = group * outs + out
        to = image * target_pitch + channel * out_height * out_width
        several = phases[0] * phases[1] > 1
        if several:
            result, place, pitch = scratch, at + temporary, length
        else:
            result, place, pitch = target, to + first * out_width, out_height * out_width
        # where the next image begins, and how much of it each stretch of the sums fetches
        size = some * channels * height * width if band >= phase_height and splits == 1 else 0
        ahead = (image * groups + group) * channels * height * width + size
        size //= ((count + columns - 1) // columns) * tiles
        stretch = max(1, offsets.size)  # no tap at all may reach the source
        stretches = _stretches(starts, stretch)
        if size > BURST * stretches:
            stretch, stretches = UNROLL, _stretches(starts, UNROLL)
        correlate_band(packed, weights, x, base, outs_of_task, parts, vectors, vectors_at, count, offsets, starts,
                       result, place, pitch, outs * length, source, (ahead, size // max(1, stretches)),
                       stretch)  # fmt: skip
        for i in range(some):
            if several:
                _interleave(phases, outs, planes_of(row), first, used, scratch, place, target, to + i * target_pitch)
                place += phases[0] * phases[1] * outs * length
                start = to + i * target_pitch + first * phases[0] * out_width
                size = min(used * phases[0], out_height - first * phases[0]) * out_width
                finish(residual, relu, affine, channel, start, out_height * out_width, outs, size, target)
            else:
                finish(residual, relu, affine, channel, place + i * target_pitch, pitch, outs_of_task, length, target)

    @device
    @tile.named
    def correlate_share(worker, row, source, packed, residual, affine, relu, scratch, target):
        """The tasks of one worker. The parts of a band's outputs follow each other, so that it is packed once."""
        images, groups, _, _, workers = problem_of(row)
        phase_height, (_, _, _, block, band, _, _, _, splits) = planes_of(row)[4], steps_of(row)
        size, _, image_size = places_of(row)
        bands = (phase_height + band - 1) // band
        tasks = ((images + block - 1) // block) * groups * bands * splits
        at = worker * size
        clear(scratch, at, block * image_size)
        here, base, band_before = False, np.intp(0), np.intp(-1)
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            place = task // splits
            first, of_images = place % bands * band, place // bands
            image, group = of_images // groups * block, of_images % groups
            if place != band_before:
                here, base = pack_source(image, group, first, row, source, scratch, at)
                band_before = place
            correlate_task(image, group, first, task % splits, row, scratch if here else source, base, source, packed,
                           residual, affine, relu, scratch, at, target)  # fmt: skip

    def correlate(table, source, packed, residual, affine, relu, scratch, target):
        row, source, packed, residual = flat(table), flat(source), flat(packed), flat(residual)
        affine, scratch, target = flat(affine), flat(scratch), flat(target)
        for worker in prange(row[4]):
            correlate_share(np.intp(worker), row, source, packed, residual, affine, relu, scratch, target)

    return kernel(tile.named(correlate))
