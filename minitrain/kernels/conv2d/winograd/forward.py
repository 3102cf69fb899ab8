"""The kernel of Winograd's convolution F(4 x 4, 3 x 3), for the forward pass and for the input gradient.

    Y = A^T [sum over channels of (G g G^T) * (B^T d B)] A         for each output and each tile of 4 x 4 pixels

In plain NumPy, with the matrices of `transforms`, for x (N, C, H, W) already between zeros, of whole tiles::

    bt, g, at = matrices()
    y = np.empty((len(x), len(weight), x.shape[2] - 2, x.shape[3] - 2))
    u = g @ weight @ g.T                                            # (K, C, 6, 6)
    for p in range(0, y.shape[2], 4):
        for q in range(0, y.shape[3], 4):
            v = bt @ x[:, :, p : p + 6, q : q + 6] @ bt.T           # (N, C, 6, 6)
            m = np.einsum("kcij,ncij->nkij", u, v)
            y[:, :, p : p + 4, q : q + 4] = at @ m @ at.T

The steps from there to here, and what each is for:

- a vector is as many channels: pixels are transposed on the way in and out, and transforms need no shuffles;
- a strip of tiles at a time goes all the way: what is transformed never leaves a level 2 cache;
- at each point the sum over channels is a matrix product of tiles and channels in register tiles (`products`);
- the outputs of a strip take the place of its channels: half the memory;
- the next strip's source is fetched during the products, which need no memory themselves;
- normalization, bias, moments, residual and ReLU are done on what is in registers or in the cache anyway.
"""

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.epilogue import finish
from minitrain.kernels.conv2d.memory import clear
from minitrain.kernels.conv2d.winograd.cut import ROWS, WinogradCut, Workspace
from minitrain.kernels.conv2d.winograd.pack import Channels, Packed, place_pixels
from minitrain.kernels.conv2d.winograd.products import Ahead, Operands, multiply
from minitrain.kernels.conv2d.winograd.transforms import BORDER, POINTS, TILE, WINDOW, transform_input, transform_output
from minitrain.kernels.conv2d.winograd.weights import point_pitch
from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, size_of
from nbnorm.kernels.batch_norm.moments import MOMENTS, add_moments
from nbnorm.simd.memory import flat
from nbnorm.simd.transpose import store_transposed_rows
from nbnorm.simd.vectors import lanes_of, load, maximum, splat, store

__all__ = ["run_winograd"]

cut_of = record(WinogradCut)
PIXELS = size_of(WinogradCut)  # where the offsets of the pixels begin in the row


class Arrays(NamedTuple):
    """What `run_winograd` is given, each array as one row."""

    source: Any
    normalization: Any
    packed: Any
    residual: Any
    affine: Any
    relu: Any
    scratch: Any
    target: Any
    sums: Any


class Strip(NamedTuple):
    """The tiles of images [image, image + images), of the rows of tiles [tile_row, tile_row + tile_rows)."""

    number: int
    image: int
    images: int
    tile_row: int
    tile_rows: int
    image_tiles: int  # of one image
    tiles: int  # of all, up to whole register tiles


@device
def _strip_of(number, cut):
    strips = cut.strips
    image, tile_row = number // strips.bands * strips.images, number % strips.bands * strips.tile_rows
    tile_rows_of_plane = (cut.planes.out_height + TILE - 1) // TILE
    images = min(strips.images, cut.problem.images - image)
    tile_rows = min(strips.tile_rows, tile_rows_of_plane - tile_row)
    image_tiles = tile_rows * strips.tile_columns
    tiles = (images * image_tiles + ROWS - 1) // ROWS * ROWS
    return Strip(number, image, images, tile_row, tile_rows, image_tiles, tiles)


@device
def _clear_borders(cut, strip, memory, plane):
    """Set the packed rows above and below the plane to 0, where strips are bands of rows and do not all have them."""
    first, row = strip.tile_row * TILE, cut.strips.row_vectors * lanes_of(memory)
    above, below = cut.planes.above - first, cut.planes.height + cut.planes.above - first
    clear(memory, plane, max(0, above) * row)
    clear(memory, plane + below * row, max(0, strip.tile_rows * TILE + BORDER - below) * row)


@device
def _transform_plane(channels, pixels, cut, strip, memory, workspace, v):
    """Transform a vector of channels of an image: its tiles of the strip, to memory[v:]."""
    height, columns, above = cut.planes.height, cut.planes.width, cut.planes.above
    lanes, plane = lanes_of(memory), workspace.plane
    size, first, row_size = height * columns, strip.tile_row * TILE, cut.strips.row_vectors * lanes
    packed = Packed(memory, plane - first * row_size, pixels)
    done = max(0, first - above) * columns
    for row in range(strip.tile_rows):
        last = min(height, first + row * TILE + WINDOW - above) * columns
        done = place_pixels(channels, done, last, size, packed)
        tile = plane + row * TILE * row_size
        for _ in range(cut.strips.tile_columns):
            transform_input(memory, tile, row_size, memory, v, workspace.point)
            tile += TILE * lanes
            v += lanes


@device
def _transform_source(arrays, pixels, cut, strip, workspace):
    """Transform all channels of the strip."""
    memory, channels, point = arrays.scratch, cut.problem.channels, workspace.point
    plane_size, lanes = cut.planes.height * cut.planes.width, lanes_of(memory)
    for b in range(cut.problem.in_vectors):
        count = min(lanes, channels - b * lanes)
        v = workspace.strip + b * strip.tiles * lanes
        if cut.strips.bands > 1:
            _clear_borders(cut, strip, memory, workspace.plane)
        for i in range(strip.images):
            start = ((strip.image + i) * channels + b * lanes) * plane_size
            planes = Channels(arrays.source, start, plane_size, count, arrays.normalization, b * lanes)
            _transform_plane(planes, pixels, cut, strip, memory, workspace, v)
            v += strip.image_tiles * lanes
        for p in range(POINTS):  # so that no numbers from before, which may be of any size, are multiplied
            clear(memory, v + p * point, (strip.tiles - strip.images * strip.image_tiles) * lanes)


@device
def _multiply(arrays, cut, strip, workspace):
    """Make the products of the strip; meanwhile fetch the next one's source, and where this one's results go."""
    problem, planes = cut.problem, cut.planes
    plane, out_plane = planes.height * planes.width, planes.out_height * planes.out_width
    row, turns = strip.tile_row * TILE, POINTS * strip.tiles // ROWS
    # what is read next: the same rows of the next images, or the next rows of the same image
    source_next = (strip.image + strip.images) * problem.channels * plane
    if row + strip.tile_rows * TILE < planes.out_height:
        source_next = strip.image * problem.channels * plane + (row + strip.tile_rows * TILE) * planes.width
    size = min(planes.height, strip.tile_rows * TILE) * planes.width
    share = strip.images * problem.channels * size * cut.strips.fetches // turns
    source_ahead = Ahead(arrays.source, source_next, size, size, plane - size, share)
    target_next = strip.image * problem.outs * out_plane + row * planes.out_width
    size = min(planes.out_height - row, strip.tile_rows * TILE) * planes.out_width
    share = strip.images * problem.outs * size * cut.strips.fetches // turns
    target_ahead = Ahead(arrays.target, target_next, size, size, out_plane - size, share)
    operands = Operands(arrays.scratch, workspace.strip, workspace.point, strip.tiles, workspace.operands)
    multiply(operands, arrays.packed, problem.in_vectors, problem.out_vectors, source_ahead, target_ahead)


@device
def _apply_relu(memory, first, last):
    """memory[first : last] = max(memory[first : last], 0), whole vectors; NaN stays."""
    zero = splat(memory.dtype.type(0))
    for i in range(first, last, lanes_of(memory)):
        store(memory, i, maximum(zero, load(memory, i)))


@device
def _finish_plane(m, bias, arrays, cut, strip, workspace, y, outs, sums, is_first):
    """Transform `outs` outputs of an image back, from scratch[m:], and put their rows into target[y:].

    The tiles are written from right to left into rows without gaps: what the last of them has beyond the end of its
    rows is overwritten with what belongs there. The outputs pass through the ReLU, where there is one and no residual
    comes before; then their moments go to sums[sums:], unless that is empty.
    """
    memory, results = arrays.scratch, workspace.results
    lanes, tile_columns = lanes_of(memory), cut.strips.tile_columns
    out_height, columns = cut.planes.out_height, cut.planes.out_width
    relu = arrays.relu and not arrays.residual.size
    first = strip.tile_row * TILE * columns
    size = min(strip.tile_rows * TILE, out_height - strip.tile_row * TILE) * columns
    done = 0
    for row in range(strip.tile_rows):
        for column in range(tile_columns - 1, -1, -1):
            points = m + (row * tile_columns + column) * lanes
            tile = results + (row * columns + column) * TILE * lanes
            transform_output(memory, points, workspace.point, bias, memory, tile, columns * lanes)
        start, last = row * TILE * columns, min(size, (row + 1) * TILE * columns)
        if relu:
            _apply_relu(memory, results + start * lanes, results + last * lanes)
        if arrays.sums.size:
            add_moments(memory, results + start * lanes, last - start, is_first and row == 0, workspace.operands,
                        arrays.sums, sums)  # fmt: skip
        while done < last and (done + lanes <= last or last == size):
            start = min(done, size - lanes)
            store_transposed_rows(memory, results + start * lanes, arrays.target, y + first + start,
                                  out_height * columns, outs)  # fmt: skip
            done = start + lanes


@device
def _finish_strip(arrays, cut, strip, workspace):
    """Transform all outputs of the strip back, and add, apply and find out on them what is to be."""
    problem, target, lanes = cut.problem, arrays.target, lanes_of(arrays.scratch)
    out_plane, out_width = cut.planes.out_height * cut.planes.out_width, cut.planes.out_width
    first = strip.tile_row * TILE * out_width
    size = min(strip.tile_rows * TILE * out_width, out_plane - first)
    biases = POINTS * point_pitch(problem.in_vectors, problem.out_vectors, lanes)
    for b in range(problem.out_vectors):
        outs = min(lanes, problem.outs - b * lanes)
        bias = load(arrays.packed, biases + b * lanes)
        sums = (strip.number * problem.out_vectors + b) * MOMENTS * lanes
        for i in range(strip.images):
            y = ((strip.image + i) * problem.outs + b * lanes) * out_plane
            m = workspace.strip + (b * strip.tiles + i * strip.image_tiles) * lanes
            _finish_plane(m, bias, arrays, cut, strip, workspace, y, outs, sums, i == 0)
            relu = arrays.relu and arrays.residual.size > 0
            finish(arrays.residual, relu, arrays.affine, b * lanes, y + first, out_plane, outs, size, target)


@device
def _run_share(worker, row, arrays):
    """The strips of one worker."""
    cut, pixels = cut_of(row), flat(row[PIXELS:])
    size, point, _, plane, results, operands = cut.workspace
    begin = worker * size
    workspace = Workspace(size, point, begin, begin + plane, begin + results, begin + operands)
    clear(arrays.scratch, workspace.plane, results - plane)
    for number in range(worker * cut.strips.total // cut.workers, (worker + 1) * cut.strips.total // cut.workers):
        strip = _strip_of(number, cut)
        _transform_source(arrays, pixels, cut, strip, workspace)
        _multiply(arrays, cut, strip, workspace)
        _finish_strip(arrays, cut, strip, workspace)


@kernel
def run_winograd(row, source, normalization, packed, residual, affine, relu, scratch, target, sums):
    """Overwrite target (images, outs, out_height, out_width) from source (images, channels, height, width).

    See `Winograd` for the row, and `transform_weights` for the packed weights. The source is normalized on the way,
    unless the normalization is empty: see `Channels`. The residual, ReLU and affine: see `finish`. Of the outputs
    before a residual is added, the moments are found on the way, unless `sums` is empty: see `combine_moments`.
    """
    row, source, normalization, packed = flat(row), flat(source), flat(normalization), flat(packed)
    residual, affine, scratch, target, sums = flat(residual), flat(affine), flat(scratch), flat(target), flat(sums)
    for worker in prange(cut_of(row).workers):
        arrays = Arrays(source, normalization, packed, residual, affine, relu, scratch, target, sums)
        _run_share(np.intp(worker), row, arrays)
