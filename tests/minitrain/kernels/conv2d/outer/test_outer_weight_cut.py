"""What the outer products' kernel works from: sizes do not depend on the items, and each weight has its lane."""

import numpy as np
import pytest
from conv2d_geometries import GEOMETRIES

from minitrain.kernels.conv2d.outer.records import Cut, cut_of
from minitrain.kernels.conv2d.outer.weight_cut import cut_outer_products, pays_to_transpose
from nbnorm.jit.records import size_of

LARGE = [geometry for geometry in GEOMETRIES if pays_to_transpose(geometry)]


def test_some_shapes_pay():
    assert 0 < len(LARGE) < len(GEOMETRIES)


@pytest.mark.parametrize("geometry", LARGE, ids=str)
def test_sizes_are_the_same_for_all_items_and_each_weight_has_its_lane(geometry):
    single, double = cut_outer_products(geometry, 4), cut_outer_products(geometry, 8)
    assert (single.tile, single.scratch) == (double.tile, double.scratch)
    for each in (single, double):
        numbers = cut_of.py_func(each.row)
        begins = numbers.tables
        assert begins.vectors == size_of(Cut)
        lanes = each.row[begins.lane_weights : begins.pixels]
        weights = np.arange(numbers.blocks.channels * numbers.problem.taps)
        np.testing.assert_array_equal(np.sort(lanes[lanes >= 0]), weights)
        assert each.scratch == numbers.scratch.workers + numbers.blocks.workers * numbers.scratch.worker
