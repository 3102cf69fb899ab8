"""What a layer says of its arrays: what is the same, and what is refused."""

import numpy as np
import pytest

from minitrain.layer import Declaration, Spec, zeros


def test_specs_of_one_array_are_equal_however_they_are_written():
    assert Spec([4, 3], np.int64) == Spec((4, 3), "int64", gradient=False)
    assert Spec((4,), bool).dtype == "bool"
    assert Spec((4,), "float64").gradient
    assert not Spec((4,), "uint8", gradient=True).gradient
    assert [Spec((4,), dtype).is_float for dtype in (None, "float64", "bool", "int32")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"outputs": {"y": (2, 3)}}, TypeError, r"outputs: expected a Spec for 'y', got \(2, 3\)"),
        ({"outputs": {}}, ValueError, "outputs: expected one or more"),
        ({"params": {"w": Spec((3,))}}, TypeError, "params: expected a Buffer for 'w'"),
        ({"params": {"y": zeros((3,))}}, ValueError, "y: stands for more than one array"),
        ({"saved": {"dx": Spec((3,))}}, ValueError, "dx: stands for more than one array"),
        ({"params": {"w": zeros((3,))}, "scratch": {"dw": Spec((3,))}}, ValueError, "dw: stands for more than one"),
        ({"saved": {"a.b": Spec((3,))}}, ValueError, "saved: expected the name of an attribute of t, got 'a.b'"),
        ({"backward_reads": ("z",)}, ValueError, "backward_reads: expected 'x', 'x0' ... or an output, got 'z'"),
        ({"same": {"y": "z"}}, ValueError, "same: 'y' can not be 'z'"),
        ({"same": {"dx0": "x0"}}, ValueError, "same: 'dx0' can not be 'x0'"),
        ({"may_share": {"y": ("x0",)}}, ValueError, "may_share: 'y' can not be 'x0'"),
        ({"may_share": {"dx0": ("dz",)}}, ValueError, "may_share: 'dx0' can not be 'dz'"),
    ],
)
def test_a_declaration_says_what_is_wrong_with_it(fields, error, message):
    with pytest.raises(error, match=message):
        Declaration(**{"outputs": {"y": Spec((2, 3))}, **fields})
