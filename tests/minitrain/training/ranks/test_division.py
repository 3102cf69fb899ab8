"""Which samples are a part, and whose it is: nothing is left out, nothing twice, and fixed parts know no ranks."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitrain.training.ranks.division import FIXED_PARTS, Division
from nbnorm.kernels.batch_norm import ghosts

samples = st.integers(1, 300)
numbers = st.integers(1, 20)


@given(samples, numbers, st.booleans())
def test_every_sample_is_in_one_part_and_every_part_on_one_rank(count, ranks, fixed):
    division = Division(count, ranks, fixed)
    assert [i for part in division.parts for i in range(*part)] == list(range(count))
    assert all(part.start < part.stop for part in division.parts)
    assert [i for rank in range(ranks) for i in division.of_rank(rank)] == list(range(len(division.parts)))
    assert division.counts == [len(division.of_rank(rank)) for rank in range(ranks)]
    assert all(index in division.of_rank(division.owner(index)) for index in range(len(division.parts)))
    assert len(division.of_rank(0)) > 0


@given(samples, numbers)
def test_parts_are_even(count, ranks):
    sizes = [part.stop - part.start for part in Division(count, ranks, False).parts]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(count, ranks)


@given(samples, numbers, numbers)
def test_fixed_parts_do_not_depend_on_the_number_of_ranks(count, ranks, others):
    assert Division(count, ranks, True).parts == Division(count, others, True).parts
    assert len(Division(count, ranks, True).parts) == min(count, FIXED_PARTS)


@given(samples, numbers, st.integers(2, 20), st.booleans())
def test_ghosts_stay_whole(count, ranks, size, fixed):
    borders = {0, *(each.stop for each in ghosts.of_samples(count, size))}
    assert {border for part in Division(count, ranks, fixed, [size]).parts for border in part} <= borders


def test_ghosts_of_sizes_that_have_no_border_in_common():
    assert Division(15, 4, False, [3, 5]).parts == [(0, 15)]


@pytest.mark.parametrize(("count", "ranks", "sizes"), [(15, 2, [7, 8]), (8, 3, [2, 3, 3]), (2, 4, [1, 1])])
def test_sizes(count, ranks, sizes):
    assert [part.stop - part.start for part in Division(count, ranks, False).parts] == sizes


def test_consecutive():
    parts = Division(100, 3, True).parts
    assert all(left.stop == right.start for left, right in itertools.pairwise(parts))
