"""The kernel of Winograd's convolution F(4 x 4, 3 x 3), for the forward pass and for the input gradient.

A strip of tiles of 4 x 4 outputs at a time: their inputs are transposed to vectors of channels and transformed to 36
points each; at every point the tiles and channels are multiplied with the weights, a matrix product in register tiles;
what comes out, in the place of what went in, is transformed back and transposed. It all stays in a level 2 cache.
"""

import numpy as np

from minitrain.kernels.conv2d.direct.forward import finish
from minitrain.kernels.conv2d.direct.pack import clear
from minitrain.kernels.conv2d.winograd.cut import ROWS
from minitrain.kernels.conv2d.winograd.pack import place_pixels
from minitrain.kernels.conv2d.winograd.transforms import POINTS, TILE, WINDOW, transform_input, transform_output
from minitrain.kernels.conv2d.winograd.weights import weights_step
from nbnorm.jit import device, kernel, prange
from nbnorm.kernels.batch_norm.moments import MOMENTS, add_moments
from nbnorm.simd.memory import flat, item, prefetch, prefetch_nearest
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.transpose import store_transposed_rows
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, load, maximum, splat, store

__all__ = ["run_winograd"]

HEAD = 20  # numbers of the table before the places of the pixels
UNROLL = 4  # channels in one turn of the loop over them

_pair, _single = make_tile(ROWS, 2), make_tile(ROWS, 1)
_zero_pair, _add_pair, _store_pair = _pair.zero, _pair.add_outer_spaced, _pair.store_columns
_zero_single, _add_single, _store_single = _single.zero, _single.add_outer_spaced, _single.store_columns


@device
def _transform_plane(source, at, rows, normalization, channel, planes, tile_row, tile_rows, tile_columns, width, pixels,
                     memory, packed, v, step):  # fmt: skip
    """Transform a vector of channels of an image: tiles of the rows [tile_row, tile_row + tile_rows) to memory[v:]."""
    height, columns, padding = planes[0], planes[1], planes[4]
    lanes = lanes_of(memory)
    size, first = height * columns, tile_row * TILE
    origin = packed - first * width * lanes
    done = max(0, first - padding) * columns
    for row in range(tile_rows):
        last = min(height, first + row * TILE + WINDOW - padding) * columns
        done = place_pixels(source, at, size, rows, done, last, size, normalization, channel, memory, origin, pixels)
        tile = packed + row * TILE * width * lanes
        for _ in range(tile_columns):
            transform_input(memory, tile, width * lanes, memory, v, step)
            tile += TILE * lanes
            v += lanes


@device
def _clear_borders(planes, tile_row, tile_rows, width, memory, packed):
    """Set the packed rows above and below the plane to 0, where strips are bands of rows and do not all have them."""
    first, row = tile_row * TILE, width * lanes_of(memory)
    above, below = planes[4] - first, planes[0] + planes[4] - first
    clear(memory, packed, max(0, above) * row)
    clear(memory, packed + below * row, max(0, tile_rows * TILE + WINDOW - TILE - below) * row)


@device
def _fetch(array, ahead, share, runs):
    """Fetch the next `share` values of some runs of values; return where to go on: a place, and what the run has left.

    runs: values of a run, from the end of one to the beginning of the next.
    """
    at, left = ahead
    for i in range(at, at + share, LANES_FLOAT32):
        prefetch(array, i)
    at, left = at + share, left - share
    if left <= 0:
        at, left = at + left + runs[1], left + runs[0]
    return at, left


@device
def _multiply(memory, v, step, tiles, in_blocks, out_blocks, weights, weights_at, operands, source, source_ahead,
              source_runs, source_size, target, target_ahead, target_runs, target_size):  # fmt: skip
    """The matrix products at all points: memory[v:] is [point][vector of channels][tile] before, of outputs after.

    Meanwhile what the next strip reads of the source, and where this one will write its results, is fetched.
    """
    lanes = lanes_of(memory)
    none = tiles - tiles
    one, columns = (none,), (none, tiles * lanes)
    parts = POINTS * tiles // ROWS
    source_share, target_share = source_size // parts, target_size // parts
    weights_pitch = weights_step(in_blocks, out_blocks, lanes)
    points = 2 if out_blocks == 1 else 1  # at a time
    for _ in range(0, POINTS, points):
        for tile in range(0, tiles, ROWS):
            for _ in range(points):
                source_ahead = _fetch(source, source_ahead, source_share, source_runs)
                target_ahead = _fetch(target, target_ahead, target_share, target_runs)
            w, pitch, u = v + tile * lanes, tiles * lanes, weights_at
            if out_blocks == 1:  # two points fill the registers
                # with so few products, the next ones wait for their operands, one line for each tile and point
                following = w + (ROWS * lanes if tile + ROWS < tiles else points * step - tile * lanes)
                acc, other = _zero_single(memory), _zero_single(memory)
                for _ in range(in_blocks):
                    for lane in range(0, lanes, UNROLL):
                        for i in range(UNROLL):
                            prefetch_nearest(memory, following + (lane // 2 + i // 2) * lanes + (i % 2) * step)
                            at, u_at = w + lane + i, u + i * lanes
                            acc = _add_single(acc, memory, at, lanes, weights, u_at)
                            other = _add_single(other, memory, at + step, lanes, weights, u_at + weights_pitch)
                        u += UNROLL * lanes
                    w, following = w + pitch, following + pitch
                _store_single(acc, memory, v + tile * lanes, one, lanes)
                _store_single(other, memory, v + step + tile * lanes, one, lanes)
                continue
            if out_blocks > 2:  # the first products would overwrite what the next ones need
                for b in range(in_blocks):
                    for i in range(ROWS):
                        store(memory, operands + (b * ROWS + i) * lanes, load(memory, w + b * pitch + i * lanes))
                w, pitch = operands, ROWS * lanes
            to = v + tile * lanes
            for _ in range(out_blocks // 2):
                pair, at = _zero_pair(memory), w
                for _ in range(in_blocks):
                    for lane in range(0, lanes, UNROLL):
                        for i in range(UNROLL):
                            pair = _add_pair(pair, memory, at + lane + i, lanes, weights, u + 2 * i * lanes)
                        u += 2 * UNROLL * lanes
                    at += pitch
                _store_pair(pair, memory, to, columns, lanes)
                to += 2 * tiles * lanes
            if out_blocks % 2:
                acc, at = _zero_single(memory), w
                for _ in range(in_blocks):
                    for lane in range(lanes):
                        acc = _add_single(acc, memory, at + lane, lanes, weights, u)
                        u += lanes
                    at += pitch
                _store_single(acc, memory, to, one, lanes)
        v += step * points
        weights_at += weights_pitch * points


@device
def _apply_relu(memory, first, last):
    """memory[first : last] = max(memory[first : last], 0), whole vectors; NaN stays."""
    zero = splat(memory.dtype.type(0))
    for i in range(first, last, lanes_of(memory)):
        store(memory, i, maximum(zero, load(memory, i)))


@device
def _finish_plane(memory, m, step, bias, planes, tile_row, tile_rows, tile_columns, unpacked, target, to, rows,
                  relu, sums, sums_at, is_first, spare):  # fmt: skip
    """Transform a vector of outputs of an image back, from memory[m:], and put its rows into target[to:].

    The tiles are written from right to left into rows without gaps: what the last of them has beyond the end of its
    rows is overwritten with what belongs there. The outputs pass through the ReLU, where `relu` says so; then their
    moments go to sums[sums_at:], unless that is empty.
    """
    lanes = lanes_of(memory)
    out_height, columns = planes[2], planes[3]
    first = tile_row * TILE * columns
    size = min(tile_rows * TILE, out_height - tile_row * TILE) * columns
    done = 0
    for row in range(tile_rows):
        for tile in range(tile_columns - 1, -1, -1):
            place = unpacked + (row * columns + tile) * TILE * lanes
            transform_output(
                memory, m + (row * tile_columns + tile) * lanes, step, bias, memory, place, columns * lanes
            )
        last = min(size, (row + 1) * TILE * columns)
        start = row * TILE * columns
        if relu:
            _apply_relu(memory, unpacked + start * lanes, unpacked + last * lanes)
        if sums.size:
            add_moments(memory, unpacked + start * lanes, last - start, is_first and row == 0, spare, sums, sums_at)
        while done < last and (done + lanes <= last or last == size):
            start = min(done, size - lanes)
            store_transposed_rows(memory, unpacked + start * lanes, target, to + first + start, out_height * columns,
                                  rows)  # fmt: skip
            done = start + lanes


@device
def _run_strip(task, problem, planes, strips, places, pixels, source, normalization, packed, residual, affine,
               relu, scratch, at, target, sums):  # fmt: skip
    images, channels, outs, _ = problem
    height, width, out_height, out_width = planes[0], planes[1], planes[2], planes[3]
    block, band, tile_columns, row, fetches = strips
    step, plane_at, unpacked, operands = places[1], at + places[2], at + places[3], at + places[4]
    lanes = lanes_of(scratch)
    in_blocks, out_blocks = (channels + lanes - 1) // lanes, (outs + lanes - 1) // lanes
    tile_rows = (out_height + TILE - 1) // TILE
    bands = (tile_rows + band - 1) // band
    image, tile_row = task // bands * block, task % bands * band
    some, used = min(block, images - image), min(band, tile_rows - tile_row)
    tiles_of_image = used * tile_columns
    tiles = (some * tiles_of_image + ROWS - 1) // ROWS * ROWS
    for b in range(in_blocks):
        rows = min(lanes, channels - b * lanes)
        v = at + b * tiles * lanes
        if bands > 1:
            _clear_borders(planes, tile_row, used, row, scratch, plane_at)
        for i in range(some):
            start = ((image + i) * channels + b * lanes) * height * width
            _transform_plane(source, start, rows, normalization, b * lanes, planes, tile_row, used, tile_columns,
                             row, pixels, scratch, plane_at, v, step)  # fmt: skip
            v += tiles_of_image * lanes
        for point in range(POINTS):  # so that no numbers from before, which may be of any size, are multiplied
            clear(scratch, v + point * step, (tiles - some * tiles_of_image) * lanes)
    # what is read next: the same rows of the next images, or the next rows of the same image
    plane, out_plane = height * width, out_height * out_width
    source_next = (image + some) * channels * plane
    if tile_row + used < tile_rows:
        source_next = image * channels * plane + (tile_row + used) * TILE * width
    size = min(height, used * TILE) * width
    source_ahead, source_runs, source_size = (source_next, size), (size, plane - size), some * channels * size * fetches
    size = min(out_height - tile_row * TILE, used * TILE) * out_width
    target_next = image * outs * out_plane + tile_row * TILE * out_width
    target_ahead, target_runs, target_size = (target_next, size), (size, out_plane - size), some * outs * size * fetches
    _multiply(scratch, at, step, tiles, in_blocks, out_blocks, packed, 0, operands, source, source_ahead,
              source_runs, source_size, target, target_ahead, target_runs, target_size)  # fmt: skip
    for b in range(out_blocks):
        rows = min(lanes, outs - b * lanes)
        bias = load(packed, POINTS * weights_step(in_blocks, out_blocks, lanes) + b * lanes)
        for i in range(some):
            to = ((image + i) * outs + b * lanes) * out_height * out_width
            _finish_plane(scratch, at + (b * tiles + i * tiles_of_image) * lanes, step, bias, planes, tile_row, used,
                          tile_columns, unpacked, target, to, rows, relu and not residual.size, sums,
                          (task * out_blocks + b) * MOMENTS * lanes, i == 0, operands)  # fmt: skip
            first = tile_row * TILE * out_width
            size = min(used * TILE * out_width, out_height * out_width - first)
            finish(residual, relu and residual.size > 0, affine, b * lanes, to + first, out_height * out_width, rows,
                   size, target)  # fmt: skip


@device
def _run_share(worker, row, source, normalization, packed, residual, affine, relu, scratch, target, sums):
    """The strips of one worker."""
    problem = item(row, 0), item(row, 1), item(row, 2), item(row, 3)
    planes = item(row, 4), item(row, 5), item(row, 6), item(row, 7), item(row, 8), item(row, 9)
    strips = item(row, 10), item(row, 11), item(row, 12), item(row, 13), item(row, 14)
    places = item(row, 15), item(row, 16), item(row, 17), item(row, 18), item(row, 19)
    tile_rows = (planes[2] + TILE - 1) // TILE
    tasks = ((problem[0] + strips[0] - 1) // strips[0]) * ((tile_rows + strips[1] - 1) // strips[1])
    at = worker * places[0]
    clear(scratch, at + places[2], places[3] - places[2])
    for task in range(worker * tasks // problem[3], (worker + 1) * tasks // problem[3]):
        _run_strip(task, problem, planes, strips, places, row[HEAD:], source, normalization, packed, residual, affine,
                   relu, scratch, at, target, sums)  # fmt: skip


@kernel
def run_winograd(table, source, normalization, packed, residual, affine, relu, scratch, target, sums):
    """Overwrite target (images, outs, out_height, out_width) from source (images, channels, height, width).

    See the plan, `Winograd`, for the table, and `transform_weights` for the packed weights. The source is normalized on
    the way, unless the normalization is empty: see `place_pixels`. The residual, ReLU and affine: see `finish`. Of the
    outputs before a residual is added, the moments are found on the way, unless `sums` is empty: see `combine_moments`.
    """
    row, source, normalization, packed = flat(table), flat(source), flat(normalization), flat(packed)
    residual, affine, scratch, target, sums = flat(residual), flat(affine), flat(scratch), flat(target), flat(sums)
    for worker in prange(row[3]):
        _run_share(np.intp(worker), row, source, normalization, packed, residual, affine, relu, scratch, target, sums)
