"""The matrix products of Winograd's convolution: at each point, the tiles of a strip by channels and their outputs.

Register tiles of `ROWS` tiles by two vectors of outputs, or by one of each of two points; the outputs take the place of
the channels.
"""

from typing import Any, NamedTuple

import numpy as np

from minitrain.kernels.conv2d.winograd.cut import ROWS
from minitrain.kernels.conv2d.winograd.transforms import POINTS
from minitrain.kernels.conv2d.winograd.weights import point_pitch
from nbnorm.jit import device
from nbnorm.simd.memory import prefetch, prefetch_nearest
from nbnorm.simd.tiles import make_tile
from nbnorm.simd.vectors import LANES_FLOAT32, lanes_of, load, store

__all__ = ["Ahead", "Operands", "multiply"]

UNROLL = 4  # channels in one turn of the loop over them: fewer leave the processor more to do than products

_pair, _single = make_tile(ROWS, 2), make_tile(ROWS, 1)
_zero_pair, _add_pair, _store_pair = _pair.zero, _pair.add_outer_spaced, _pair.store_columns
_zero_single, _add_single, _store_single = _single.zero, _single.add_outer_spaced, _single.store_columns


class Operands(NamedTuple):
    """memory[v:] is [point][vector of channels][tile], `point` values from one point to the next, of `tiles` tiles.

    After the products it is [point][vector of outputs][tile]. memory[copies:] has room for the channels of `ROWS`
    tiles.
    """

    memory: Any
    v: int
    point: int
    tiles: int
    copies: int


class Ahead(NamedTuple):
    """What is fetched ahead of its use: runs of `length` values of `array`, `gap` values between them.

    The next values are array[offset:], of which `left` are in this run; `share` values are fetched at a time.
    """

    array: Any
    offset: int
    left: int
    length: int
    gap: int
    share: int


@device
def _fetch(ahead):
    """Fetch the next share, and return what comes after it."""
    offset, left = ahead.offset, ahead.left
    for i in range(offset, offset + ahead.share, LANES_FLOAT32):
        prefetch(ahead.array, i)
    offset, left = offset + ahead.share, left - ahead.share
    if left <= 0:
        offset, left = offset + left + ahead.gap, left + ahead.length
    return Ahead(ahead.array, offset, left, ahead.length, ahead.gap, ahead.share)


@device
def _multiply_two_points(memory, v, pitch, point, weights, u, u_point, following, in_vectors):
    """The products of `ROWS` tiles at memory[v:] with a single vector of outputs, at two points: they fill registers.

    With so few products, the next ones wait for their operands, at memory[following:]: one line for each tile and
    point is fetched.
    """
    lanes = lanes_of(memory)
    acc, other = _zero_single(memory), _zero_single(memory)
    operand = v
    for _ in range(in_vectors):
        for lane in range(0, lanes, UNROLL):
            for i in range(UNROLL):
                prefetch_nearest(memory, following + (lane // 2 + i // 2) * lanes + (i % 2) * point)
                channel, weight = operand + lane + i, u + i * lanes
                acc = _add_single(acc, memory, channel, lanes, weights, weight)
                other = _add_single(other, memory, channel + point, lanes, weights, weight + u_point)
            u += UNROLL * lanes
        operand, following = operand + pitch, following + pitch
    first_column = (np.intp(0),)
    _store_single(acc, memory, v, first_column, lanes)
    _store_single(other, memory, v + point, first_column, lanes)


@device
def _multiply_one_point(memory, operands, pitch, weights, u, in_vectors, out_vectors, result, result_pitch):
    """The products of `ROWS` tiles at memory[operands:] with all outputs at one point, to memory[result:]."""
    lanes = lanes_of(memory)
    first_column, columns = (np.intp(0),), (np.intp(0), result_pitch)
    for _ in range(out_vectors // 2):
        pair, operand = _zero_pair(memory), operands
        for _ in range(in_vectors):
            for lane in range(0, lanes, UNROLL):
                for i in range(UNROLL):
                    pair = _add_pair(pair, memory, operand + lane + i, lanes, weights, u + 2 * i * lanes)
                u += 2 * UNROLL * lanes
            operand += pitch
        _store_pair(pair, memory, result, columns, lanes)
        result += 2 * result_pitch
    if out_vectors % 2:
        acc, operand = _zero_single(memory), operands
        for _ in range(in_vectors):
            for lane in range(lanes):
                acc = _add_single(acc, memory, operand + lane, lanes, weights, u)
                u += lanes
            operand += pitch
        _store_single(acc, memory, result, first_column, lanes)


@device
def multiply(operands, weights, in_vectors, out_vectors, source_ahead, target_ahead):
    """Overwrite the operands with their products with the weights of `transform_weights`, at all points.

    Meanwhile what the next strip reads of the source, and where this one will write its results, is fetched.
    """
    memory, v, tiles = operands.memory, operands.v, operands.tiles
    lanes = lanes_of(memory)
    pitch, u_point = tiles * lanes, point_pitch(in_vectors, out_vectors, lanes)
    points = 2 if out_vectors == 1 else 1  # at a time
    u = np.intp(0)
    for _ in range(0, POINTS, points):
        for tile in range(0, tiles, ROWS):
            for _ in range(points):
                source_ahead = _fetch(source_ahead)
                target_ahead = _fetch(target_ahead)
            operand = result = v + tile * lanes
            if out_vectors == 1:
                is_last = tile + ROWS >= tiles
                following = operand + (points * operands.point - tile * lanes if is_last else ROWS * lanes)
                _multiply_two_points(memory, operand, pitch, operands.point, weights, u, u_point, following, in_vectors)
                continue
            operand_pitch = pitch
            if out_vectors > 2:  # the first products would overwrite what the next ones need
                for b in range(in_vectors):
                    for i in range(ROWS):
                        value = load(memory, operand + b * pitch + i * lanes)
                        store(memory, operands.copies + (b * ROWS + i) * lanes, value)
                operand, operand_pitch = operands.copies, ROWS * lanes
            _multiply_one_point(memory, operand, operand_pitch, weights, u, in_vectors, out_vectors, result, pitch)
        v += operands.point * points
        u += u_point * points
