"""How an update is divided into pieces, and which parameters are one group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain import optimizers
from minitrain.optimizers.cut import FROZEN, Settings, cut_runs
from minitrain.optimizers.globs import expect_globs, expect_penalty
from minitrain.optimizers.runs import ParameterRun


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 9000), st.booleans()), max_size=6), st.integers(0, 50))
def test_pieces_cover_the_vector(lengths, tail):
    runs, end, mask = [], 0, []
    for gap, length, applies in lengths:
        runs.append((slice(end + gap, end + gap + length), applies))
        mask += [False] * gap + [applies] * length
        end += gap + length
    mask += [False] * tail
    pieces = optimizers.pieces_of(runs, end + tail)
    covered = [bool(flag) for start, stop, flag in pieces for _ in range(start, stop)]
    assert covered == mask
    assert all(0 < stop - start <= optimizers.PIECE for start, stop, _ in pieces)
    assert [0, *pieces[:-1, 1]] == [*pieces[:, 0]] if len(pieces) else end + tail == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9000), st.integers(-1, 3)), max_size=8), st.integers(0, 50))
def test_pieces_leave_out_what_is_frozen(lengths, tail):
    runs, end, groups = [], 0, []
    for gap, length, group in lengths:
        runs.append((slice(end + gap, end + gap + length), group))
        groups += [0] * gap + [group] * length
        end += gap + length
    groups = np.array(groups + [0] * tail)
    found = np.full(groups.size, FROZEN)
    for start, stop, group in optimizers.pieces_of(runs, end + tail):
        assert 0 < stop - start <= optimizers.PIECE
        assert (found[start:stop] == FROZEN).all()
        found[start:stop] = group
    np.testing.assert_array_equal(found, groups)


def test_slices_that_overlap():
    with pytest.raises(ValueError, match="penalized: expected increasing slices within 3 elements"):
        optimizers.pieces_of([(slice(0, 2), True), (slice(1, 3), True)], 3)


def settings_of(l1=0.0, l2=0.0, weight_decay=0.0, rate=None):
    penalties = [expect_penalty("penalty", each) for each in (l1, l2, weight_decay)]
    return Settings(*penalties, rate if rate is None else expect_globs("rate", rate))


def net(layers=40):
    """Weights, then gammas, a hundred values each."""
    names = [f"conv{i}.weight" for i in range(layers)] + [f"bn{i}.gamma" for i in range(layers)]
    return [ParameterRun(slice(100 * i, 100 * i + 100), "weight" in name, name) for i, name in enumerate(names)]


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_numbers_make_two_groups_whatever_the_number_of_parameters(penalty):
    cut = cut_runs(net(), 8000, settings_of(l2=penalty))
    assert cut.pieces.tolist() == [[0, 4000, 1], [4000, 8000, 0]]
    assert cut.settings.tolist() == [[0, 0, 0, 1], [0, penalty, 0, 1]]
    assert cut.elements == 8000
    assert cut.trained is None


def test_equal_settings_are_one_group():
    cut = cut_runs(net(), 8000, settings_of(l1={"*.gamma": 0.1}, l2={"conv?.*": 0.5}, rate={"bn1*": 10, "conv1?.*": 1}))
    assert {tuple(row) for row in cut.settings} == {(0, 0, 0, 1), (0.1, 0, 0, 1), (0.1, 0, 0, 10), (0, 0.5, 0, 1)}
    assert (np.diff(cut.pieces[:, 0]) > 0).all()
    assert cut.elements == 8000


def test_all_is_frozen():
    cut = cut_runs([each._replace(frozen=True) for each in net()], 8000, settings_of(l2=0.5))
    assert cut.pieces.shape == (0, 3)
    assert cut.elements == 0
