"""Packing of a convolution's weights in the order in which its tiles read them."""

from typing import NamedTuple

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.jit.records import record, size_of
from nbnorm.simd.memory import flat, item, store_item

__all__ = ["WeightCut", "pack_weights"]


class WeightCut(NamedTuple):
    """What `pack_weights` does; behind it in the row is the offset of each (channel, tap) in the weights of an output.

    tile_rows: outputs of a tile. group_pitch, out_pitch: from one group and one output to the next in the weights.
    """

    tile_rows: int
    groups: int
    outs: int  # of a group
    group_pitch: int
    out_pitch: int


HEAD = size_of(WeightCut)
cut_of = record(WeightCut)


@device
def _pack_tile(index, row, weight, scale, bias, packed):
    cut, offsets = cut_of(row), flat(row[HEAD:])
    rows, outs, pitch, terms = cut.tile_rows, cut.outs, cut.out_pitch, offsets.size
    tiles = (outs + rows - 1) // rows
    group, first = index // tiles, min(index % tiles * rows, outs - rows)
    first_weight, size = group * cut.group_pitch + first * pitch, rows * (1 + terms)
    tile = packed[index * size : (index + 1) * size]
    for r in range(rows):
        out = group * outs + first + r
        tile[r] = bias[out] if bias.size else 0
        factor = scale[out] if scale.size else 1.0
        for m in range(terms):
            value = factor * item(weight, first_weight + r * pitch + item(offsets, m))
            store_item(tile, (m + 1) * rows + r, tile.dtype.type(value))


@kernel
def pack_weights(weights, weight, scale, bias, packed):
    """For each tile a bias for each of its outputs, then a weight for each of them for each (channel, tap).

    weights: the row of a `WeightCut`. The last tile of a group is moved back to end with its outputs. The weights of
    each output are multiplied by its scale (float64), if there are any, and rounded once.
    """
    row, weight, scale, bias, packed = flat(weights), flat(weight), flat(scale), flat(bias), flat(packed)
    cut = cut_of(row)
    for index in prange(cut.groups * ((cut.outs + cut.tile_rows - 1) // cut.tile_rows)):
        _pack_tile(np.intp(index), row, weight, scale, bias, packed)
