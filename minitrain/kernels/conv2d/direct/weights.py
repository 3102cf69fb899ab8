"""Packing of a convolution's weights in the order in which its tiles read them."""

import numpy as np

from nbnorm.jit import device, kernel, prange
from nbnorm.simd.memory import flat, item, store_item

__all__ = ["pack_weights"]

HEAD = 5  # numbers of the table before the places of the weights


@device
def _pack_tile(index, row, weight, scale, bias, packed):
    rows, outs, pitch, terms = item(row, 0), item(row, 2), item(row, 4), row.size - HEAD
    tiles = (outs + rows - 1) // rows
    group, first = index // tiles, min(index % tiles * rows, outs - rows)
    start, size = group * item(row, 3) + first * pitch, rows * (1 + terms)
    tile = packed[index * size : (index + 1) * size]
    for r in range(rows):
        out = group * outs + first + r
        tile[r] = bias[out] if bias.size else 0
        factor = scale[out] if scale.size else 1.0
        for m in range(terms):
            value = factor * item(weight, start + r * pitch + item(row, HEAD + m))
            store_item(tile, (m + 1) * rows + r, tile.dtype.type(value))


@kernel
def pack_weights(table, weight, scale, bias, packed):
    """For each tile a bias for each of its outputs, then a weight for each of them for each (channel, tap).

    table: outputs of a tile, groups, outputs of a group, strides of a group and of an output in the weights, then the
    place of each (channel, tap) there. The last tile of a group is moved back to end with its outputs. The weights of
    each output are multiplied by its scale (float64), if there are any, and rounded once.
    """
    row, weight, scale, bias, packed = flat(table), flat(weight), flat(scale), flat(bias), flat(packed)
    for index in prange(row[1] * ((row[2] + row[0] - 1) // row[0])):
        _pack_tile(np.intp(index), row, weight, scale, bias, packed)
