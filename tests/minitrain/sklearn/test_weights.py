"""Weights of classes by label."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from minitrain.sklearn.weights import class_factors

CLASSES = np.array(["a", "b", "c"])
AMOUNTS = np.array([6.0, 3.0, 0.0])


def test_balanced_is_inverse_to_what_there_is():
    assert class_factors("balanced", CLASSES, AMOUNTS).tolist() == [1.5, 3.0, 0.0]


@pytest.mark.parametrize(
    ("classes", "class_weight", "factors"),
    [
        (CLASSES, {"b": 2}, [1.0, 2.0, 1.0]),
        (CLASSES, {"a": 2, "b": 0, "c": np.float32(0.5), "d": 9}, [2.0, 0.0, 0.5]),
        (np.array([1, 2]), {np.int8(1): 3, 2.0: 4}, [3.0, 4.0]),
        (np.array([False, True]), {True: 3}, [1.0, 3.0]),
    ],
)
def test_factors_by_label(classes, class_weight, factors):
    assert class_factors(class_weight, classes, AMOUNTS).tolist() == factors


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ("even", ValueError, "class_weight: expected 'balanced', got 'even'"),
        ([1, 2, 3], TypeError, "class_weight: expected a dictionary of weights by label, or 'balanced', got"),
        ({"B": 1}, ValueError, r"class_weight: expected labels of the classes \['a', 'b', 'c'\], got 'B'"),
        ({"a": np.nan}, ValueError, r"class_weight\['a'\]: expected a finite number >= 0, got nan"),
        ({"a": True}, TypeError, r"class_weight\['a'\]: expected a number, got True"),
    ],
)
def test_what_are_no_weights(class_weight, error, message):
    with pytest.raises(error, match=f"^{message}"):
        class_factors(class_weight, CLASSES, AMOUNTS)
