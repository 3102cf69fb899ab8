"""Numbers by glob: which glob counts, and what globs refuse."""

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitrain.optimizers.globs import Globs, expect_globs, expect_penalty

NAMES = [f"{node}.{variable}" for node in ("conv1", "conv2", "bn1", "Bn1", "head") for variable in ("weight", "gamma")]
PATTERNS = [
    "*",
    "*.weight",
    "*.gamma",
    "conv?.*",
    "conv[12].weight",
    "bn1.*",
    "Bn1.*",
    "head.*",
    "h*",
    "conv1.weight",
    "x",
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(PATTERNS), st.floats(0, 10)), st.permutations(PATTERNS))
def test_the_last_that_matches_counts(numbers, order):
    globs = expect_globs("rate", {glob: numbers[glob] for glob in order if glob in numbers})
    for name in NAMES:
        expected = 1.0
        for glob, number in globs.items():
            if fnmatch.fnmatchcase(name, glob):
                expected = number
        assert globs.number_for(name, 1.0) == expected


def test_a_run_without_a_name_is_matched_by_none():
    assert expect_globs("rate", {"*": 5}).number_for("", 1.0) == 1.0


def test_it_is_a_mapping_that_does_not_change():
    globs = expect_globs("l1", {"*": 1, "head.*": 2})
    assert globs == {"*": 1.0, "head.*": 2.0}
    assert globs != {"head.*": 2.0, "*": 1.0}
    assert globs != 3
    assert globs["head.*"] == 2.0
    assert list(globs) == ["*", "head.*"]
    assert len(globs) == 2
    assert hash(globs) == hash(Globs((("*", 1.0), ("head.*", 2.0))))
    with pytest.raises(TypeError):
        globs["*"] = 3
    with pytest.raises(KeyError):
        globs["conv"]
    assert expect_penalty("l1", globs) == globs


@pytest.mark.parametrize("glob", ["conv3.*", "*.Gamma", "head", "CONV1.weight", ""])
def test_a_glob_that_matches_nothing(glob):
    globs = expect_globs("l2", {"*": 1, glob: 2})
    with pytest.raises(ValueError) as caught:
        globs.check("l2", NAMES)
    assert str(caught.value).startswith("l2: expected globs of parameters (conv1.weight, conv1.gamma")
    assert str(caught.value).endswith(f"got {glob!r}, which matches none of them")
