"""Where parameters lie, and what of the vector is trained."""

import copy
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.optimizers import ParameterRun, ParameterRuns


def runs_of(lengths):
    runs, end = [], 0
    for i, (gap, length, frozen) in enumerate(lengths):
        runs.append(ParameterRun(slice(end + gap, end + gap + length), True, f"a{i}.weight", frozen))
        end += gap + length
    return ParameterRuns(runs), end


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), max_size=8), st.integers(0, 3))
def test_trained_is_what_is_not_frozen(lengths, tail):
    runs, end = runs_of(lengths)
    expected = np.ones(end + tail, bool)
    for each in runs:
        expected[each.run] = not each.frozen
    if runs.trained is None:
        assert not any(each.frozen for each in runs)
        return
    trained = np.zeros(end + tail, int)
    for run in runs.trained:
        trained[run] += 1
    np.testing.assert_array_equal(trained, expected)


def test_neighbours_are_one_slice():
    runs, _ = runs_of([(0, 5, False), (0, 5, False), (1, 5, True), (0, 5, True), (0, 5, False), (0, 5, False)])
    assert runs.trained == (slice(0, 11), slice(21, None))


def test_copies():
    runs, _ = runs_of([(0, 5, True), (0, 5, False)])
    for other in (copy.deepcopy(runs), pickle.loads(pickle.dumps(runs))):
        assert type(other) is ParameterRuns
        assert other == runs
        assert other.trained == runs.trained
