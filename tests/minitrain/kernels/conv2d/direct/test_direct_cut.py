"""What the direct convolution works from: sizes do not depend on the items, tables are where they should be."""

import numpy as np
import pytest
from conv2d_geometries import GEOMETRIES

from minitrain.kernels.conv2d.direct.cut import cut_forward, cut_input_gradient
from minitrain.kernels.conv2d.direct.records import Cut, WeightGradientCut, cut_of, weight_cut_of
from minitrain.kernels.conv2d.direct.weight_cut import cut_weight_gradient
from nbnorm.jit.records import size_of


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("cut", [cut_forward, cut_input_gradient])
def test_sizes_of_a_correlation_are_the_same_for_all_items(geometry, cut):
    single, double = cut(geometry, 4), cut(geometry, 8)
    assert (single.tile, single.packed, single.scratch) == (double.tile, double.packed, double.scratch)
    np.testing.assert_array_equal(single.weights, double.weights)
    for each in (single, double):
        numbers = cut_of.py_func(each.row)
        begins = numbers.tables
        assert begins.segments == size_of(Cut)
        assert begins.starts + numbers.phases.rows * numbers.phases.columns * numbers.bands.chunks + 1 == each.row.size
        assert each.row[-1] == begins.starts - begins.offsets  # the last chunk ends with the offsets
        assert each.scratch == numbers.bands.workers * numbers.scratch.worker


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_sizes_of_a_weight_gradient_are_the_same_for_all_items(geometry):
    single, double = cut_weight_gradient(geometry, 4), cut_weight_gradient(geometry, 8)
    assert (single.tile, single.scratch) == (double.tile, double.scratch)
    for each in (single, double):
        numbers = weight_cut_of.py_func(each.row)
        assert numbers.tables.segments == size_of(WeightGradientCut)
        pairs = each.row.size - numbers.tables.offsets
        assert pairs == max(numbers.blocks.channels * numbers.taps, each.tile[1])
