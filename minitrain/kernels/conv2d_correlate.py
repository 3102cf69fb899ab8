"""The kernel behind the forward pass and the input gradient: a correlation of packed planes in register tiles."""

from functools import cache

from minitrain.kernels.conv2d_pack import pack
from nbnorm._jit import Kernel, device, kernel, prange
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["correlation_kernel"]


@device
def _pack_weights(index, rows, problem, places, taps, starts, weight, bias, packed):
    """Tile number `index`: a bias for each of its `rows` outputs, then for each phase [channel][tap][row]."""
    channels, outs = problem[2], problem[3]
    tiles = (outs + rows - 1) // rows
    group, first = index // tiles, min(index % tiles * rows, outs - rows)
    at = index * rows * (1 + channels * taps.shape[0])
    for r in range(rows):
        packed[at + r] = bias[group * outs + first + r] if bias.size else 0
    at += rows
    start = group * places[0] + first * places[1]
    for f in range(starts.size - 1):
        for c in range(channels):
            for t in range(starts[f], starts[f + 1]):
                for r in range(rows):
                    packed[at + r] = weight[start + r * places[1] + c * places[2] + taps[t, 1]]
                at += rows


@device
def _interleave(phases, outs, planes, first, rows, temporary, at, target, to):
    """Put rows [first, first + rows) of all phases, temporary[at:] as [phase][output][row][column], into the result."""
    height, width, columns = planes[2], planes[3], planes[5]
    for k in range(outs):
        for q in range(rows):
            for a in range(min(phases[0], height - (first + q) * phases[0])):
                place = to + (k * height + (first + q) * phases[0] + a) * width
                for b in range(phases[1]):
                    source = at + (((a * phases[1] + b) * outs + k) * rows + q) * columns
                    for column in range((width - b + phases[1] - 1) // phases[1]):
                        target[place + b + column * phases[1]] = temporary[source + column]


@cache
def correlation_kernel(rows: int, columns: int) -> Kernel:
    """The kernel for tiles of `rows` outputs by `columns` vectors of pixels."""
    tile = make_tile(rows, columns)
    splat_rows, add_outer, store, store_between = tile.splat_rows, tile.add_outer, tile.store, tile.store_between

    @device
    @tile.named
    def correlate_band(
        weights, at, packed, base, plane, channels, outs, taps, starts, length, target, to, pitch, phase
    ):
        """Every output of a band of `length` pixels: output k of phase f into target[to + k * pitch + f * phase:].

        The last block of pixels and the last tile of outputs are moved back to end where the band and the outputs end,
        so that what two of them share is computed twice, alike; only a band shorter than a block needs masks.
        """
        width = columns * (VECTOR_BYTES // target.itemsize)
        tile_size = rows * (1 + channels * taps.shape[0])
        for block in range(0, length, width):
            start = max(0, min(block, length - width))
            for k in range(0, outs, rows):
                first = min(k, outs - rows)
                biases = at + k // rows * tile_size
                w = biases + rows
                for f in range(starts.size - 1):
                    acc = splat_rows(weights, biases)
                    for c in range(channels):
                        x = base + c * plane + start
                        for t in range(starts[f], starts[f + 1]):
                            acc = add_outer(acc, weights, w, packed, x + taps[t, 0])
                            w += rows
                    place = to + first * pitch + f * phase + start
                    if length < width:
                        store_between(acc, target, place, pitch, length)
                    else:
                        store(acc, target, place, pitch)

    @device
    @tile.named
    def correlate_task(task, problem, planes, phases, steps, places, shifts, taps, starts, source, scratch, at, target):
        """One band of rows of one group of one image; scratch[at:] is the worker's own."""
        groups, channels, outs = problem[1], problem[2], problem[3]
        height, width, out_height, out_width, phase_height, phase_width = planes
        row_step, column_step, residues, band, halo = steps
        bands = (phase_height + band - 1) // band
        image, first = task // bands, task % bands * band  # an image here is one group of an image
        used = min(band, phase_height - first)
        slots = band + halo
        pack(source, image * channels * height * width, height, width, channels, first, slots, phase_width, row_step,
             column_step, shifts, residues, scratch, at)  # fmt: skip
        plane = residues * (shifts.size - residues) * slots * phase_width
        weights = image % groups * ((outs + rows - 1) // rows) * rows * (1 + channels * taps.shape[0])
        length = used * phase_width
        to = image * outs * out_height * out_width
        if phases[0] * phases[1] == 1:
            correlate_band(scratch, weights, scratch, at, plane, channels, outs, taps, starts, length, target,
                           to + first * out_width, out_height * out_width, 0)  # fmt: skip
        else:
            temporary = at + places[5]
            correlate_band(scratch, weights, scratch, at, plane, channels, outs, taps, starts, length, scratch,
                           temporary, length, outs * length)  # fmt: skip
            _interleave(phases, outs, planes, first, used, scratch, temporary, target, to)

    def correlate(problem, planes, phases, steps, places, shifts, taps, starts, source, weight, bias, scratch, target):
        source, weight, target = source.reshape(-1), weight.reshape(-1), target.reshape(-1)
        images, groups, outs, workers = problem[0], problem[1], problem[3], problem[4]
        for index in prange(groups * ((outs + rows - 1) // rows)):
            _pack_weights(index, rows, problem, places, taps, starts, weight, bias, scratch)
        tasks = images * groups * ((planes[4] + steps[3] - 1) // steps[3])
        for worker in prange(workers):
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                correlate_task(task, problem, planes, phases, steps, places, shifts, taps, starts, source, scratch,
                               places[3] + worker * places[4], target)  # fmt: skip

    return kernel(tile.named(correlate))
