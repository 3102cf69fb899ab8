"""Packing of a convolution's weights in the order in which its tiles read them."""

import numpy as np

from nbnorm._jit import device, kernel, prange
from nbnorm.simd.lanes import item
from nbnorm.simd.vectors import flat

__all__ = ["pack_weights"]


@device
def _pack_tile(index, rows, table, weight, bias, packed):
    outs, terms = item(table, 2), table.size - 5
    tiles = (outs + rows - 1) // rows
    group, first = index // tiles, min(index % tiles * rows, outs - rows)
    at = index * rows * (1 + terms)
    for r in range(rows):
        packed[at + r] = bias[group * outs + first + r] if bias.size else 0
    start = group * item(table, 3) + first * item(table, 4)
    for m in range(terms):
        at += rows
        source = start + item(table, 5 + m)
        for r in range(rows):
            packed[at + r] = item(weight, source + r * item(table, 4))


@kernel
def pack_weights(table, weight, bias, packed):
    """For each tile a bias for each of its outputs, then a weight for each of them for each (channel, tap).

    table: outputs of a tile, groups, outputs of a group, strides of a group and of an output in the weights, then the
    place of each (channel, tap) there. The last tile of a group is moved back to end with its outputs.
    """
    row, weight, bias, packed = flat(table), flat(weight), flat(bias), flat(packed)
    rows, outs = row[0], row[2]
    for index in prange(row[1] * ((outs + rows - 1) // rows)):
        _pack_tile(np.intp(index), rows, row, weight, bias, packed)
