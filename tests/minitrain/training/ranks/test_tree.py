"""Sums whose additions are those of one tree, whoever holds what."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minitrain.training.ranks.tree import subtrees, summed


def pieces(bounds, arrays, total):
    """What ranks with these parts send: sums of the largest subtrees that they hold."""
    leaves = {(i, i + 1): each for i, each in enumerate(arrays)}
    spans = [span for first, stop in bounds for span in subtrees(first, stop, total)]
    return {span: summed(leaves, *span) for span in spans}


@given(st.integers(1, 33), st.lists(st.integers(0, 33)), st.integers(0, 99))
def test_the_bits_are_the_same_for_any_distribution(total, cuts, seed):
    rng = np.random.default_rng(seed)
    arrays = list((rng.standard_normal((total, 3)) * 10.0 ** rng.integers(-6, 6, (total, 3))).astype(np.float32))
    ends = sorted({0, total, *(min(cut, total) for cut in cuts)})
    bounds = list(itertools.pairwise(ends))
    whole = summed(pieces([(0, total)], arrays, total), 0, total)
    assert summed(pieces(bounds, arrays, total), 0, total).tobytes() == whole.tobytes()
    np.testing.assert_allclose(
        whole, np.sum(arrays, axis=0, dtype=np.float64), rtol=1e-4, atol=np.abs(arrays).max() * 1e-5
    )


@given(st.integers(1, 40), st.data())
def test_subtrees_make_up_what_they_are_asked_for(total, data):
    first = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(first, total))
    assert [i for span in subtrees(first, stop, total) for i in range(*span)] == list(range(first, stop))


def test_powers_of_two_send_one_sum_each():
    assert [subtrees(2 * rank, 2 * rank + 2, 8) for rank in range(4)] == [[(0, 2)], [(2, 4)], [(4, 6)], [(6, 8)]]
