"""What a person passes as x: right numbers for all that is accepted, words that help for the rest."""

import re

import numpy as np
import pytest

from minitrain import Input, Model, layers
from minitrain.layer import Spec
from minitrain.model.inputs import check_inputs

FLOAT32 = np.dtype("float32")
VECTORS = {"input": Spec((3,))}
IMAGES = {"input": Spec((1, 6, 5))}
NAMED = {"photo": Spec((2, 4))}
FREE = {"input": Spec((None, 2))}
TOKENS = {"input": Spec((), "int64")}
MASK = {"input": Spec((3,), "bool")}
SMALL = {"input": Spec((3,), "uint16")}
TWO = {"a": Spec((3,)), "tokens": Spec((), "int64")}
X = np.arange(12.0).reshape(4, 3)


class Frame:
    """A table as pandas and polars have it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class Table:
    """A table that is no array but can be made one."""

    def to_numpy(self):
        return X


def masked(*rows):
    mask = np.zeros((4, 3), bool)
    mask[list(rows), 1] = True
    return np.ma.masked_array(X, mask=mask)


def read_only():
    values = X.copy()
    values.flags.writeable = False
    return values


def memory_map(path):
    values = np.memmap(path, np.float64, "w+", shape=X.shape)
    values[...] = X
    return values


ACCEPTED = {
    "array": lambda: X,
    "list of lists": lambda: X.tolist(),
    "tuple of tuples": lambda: tuple(map(tuple, X)),
    "list of arrays": lambda: list(X),
    "list of one array": lambda: [X],
    "list of one list": lambda: [X.tolist()],
    "dictionary": lambda: {"input": X},
    "dictionary of lists": lambda: {"input": X.tolist()},
    "matrix": lambda: X.view(np.matrix),
    "masked array without masked values": lambda: masked(),
    "big-endian": lambda: X.astype(">f8"),
    "big-endian integers": lambda: X.astype(">i4"),
    "float16": lambda: X.astype("float16"),
    "longdouble": lambda: X.astype("longdouble"),
    "uint8": lambda: X.astype("uint8"),
    "Fortran order": lambda: np.asfortranarray(X),
    "every other row": lambda: np.repeat(X, 2, axis=0)[::2],
    "backward": lambda: X[::-1].copy()[::-1],
    "read-only": read_only,
    "frame": lambda: Frame(X),
    "table": Table,
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_accepted_gives_the_numbers_of_the_plain_array(make):
    (given,) = check_inputs(VECTORS, make(), FLOAT32)
    assert type(given) is np.ndarray
    np.testing.assert_array_equal(given.astype("float32"), X.astype("float32"))
    node = Input((3,))
    model = Model(node, layers.Dense(2)(node))
    np.testing.assert_array_equal(model.predict(make()), model.predict(X.astype("float32")))


def test_memory_maps_and_tensors(tmp_path):
    (given,) = check_inputs(VECTORS, memory_map(tmp_path / "x"), FLOAT32)
    assert type(given) is np.ndarray
    np.testing.assert_array_equal(given, X)
    torch = pytest.importorskip("torch")
    for tensor in (torch.tensor(X), [torch.tensor(row) for row in X], {"input": torch.tensor(X)}):
        np.testing.assert_array_equal(check_inputs(VECTORS, tensor, FLOAT32)[0], X)
    learned = torch.tensor(X, requires_grad=True)
    for tensor in (learned, [learned], list(learned), {"input": learned}):
        with pytest.raises(TypeError, match=r"x: expected numbers, got a \w+, of which NumPy makes no array: .*detach"):
            check_inputs(VECTORS, tensor, FLOAT32)
    with pytest.raises(TypeError, match="BFloat16"):
        check_inputs(VECTORS, learned.detach().to(torch.bfloat16), FLOAT32)


def test_nothing_is_copied_without_need():
    for x in (X, [X], {"input": X}, X.view(np.matrix), X.view(np.ma.MaskedArray), Frame(X)):
        assert np.shares_memory(check_inputs(VECTORS, x, FLOAT32)[0], X)


def test_two_samples_are_told_from_two_arrays_by_their_shapes():
    (given,) = check_inputs(VECTORS, [X[0], X[1]], FLOAT32)
    np.testing.assert_array_equal(given, X[:2])
    (given,) = check_inputs(FREE, [np.ones((5, 2)), np.zeros((5, 2))], FLOAT32)
    assert given.shape == (2, 5, 2)
    (given,) = check_inputs(FREE, [np.ones((4, 5, 2))], FLOAT32)
    assert given.shape == (4, 5, 2)
    (given,) = check_inputs(TOKENS, [7, 8], FLOAT32)
    assert given.tolist() == [7, 8]


def test_not_finite_and_no_samples_are_fine():
    for x in (np.full((2, 3), np.nan), np.array([[np.inf, 0, 1]])):
        assert check_inputs(VECTORS, x, FLOAT32)[0] is x
    for inputs, dtype in ((VECTORS, "float32"), (SMALL, "uint16"), (MASK, "bool")):
        (given,) = check_inputs(inputs, np.zeros((0, 3)), FLOAT32)
        assert given.shape == (0, 3)
        assert inputs is VECTORS or given.dtype == dtype


def test_several_inputs_by_place_and_by_name():
    tokens = np.array([1, 2, 3, 4], "int32")
    for x in ([X, tokens], (X, tokens), {"a": X, "tokens": tokens}, {"tokens": tokens.tolist(), "a": X.tolist()}):
        a, b = check_inputs(TWO, x, FLOAT32)
        np.testing.assert_array_equal(a, X)
        np.testing.assert_array_equal(b, tokens)


SPARSE = "which is sparse; pass x.toarray()"
DIFFERENT = "got samples of different shapes: "
REFUSED = [
    (VECTORS, lambda: (row for row in X), TypeError, "got a generator; collect it first: np.stack(list(x))"),
    (VECTORS, lambda: map(list, X), TypeError, "got a map; collect it first"),
    (VECTORS, lambda: zip(X, X, strict=True), TypeError, "got a zip; collect it first"),
    (VECTORS, lambda: {1, 2}, TypeError, "x: expected numbers, got a set; pass an array"),
    (VECTORS, lambda: None, TypeError, "x: expected numbers, got None"),
    (VECTORS, object, TypeError, "x: expected numbers, got an object; pass an array"),
    (VECTORS, lambda: {"x": X}, ValueError, "x: expected arrays under the names of the inputs (input), got x"),
    (VECTORS, dict, ValueError, "(input), got no array"),
    (VECTORS, lambda: {"input": X, "more": X}, ValueError, "(input), got input, more"),
    (VECTORS, lambda: "abc", TypeError, "x: expected numbers, got dtype <U3 (strings in a str)"),
    (VECTORS, lambda: [["1", "2", "3"]], TypeError, "(strings in a list); turn them into numbers"),
    (VECTORS, lambda: X.astype("U"), TypeError, "(strings); turn them into numbers"),
    (VECTORS, lambda: X.astype("S"), TypeError, "(bytes)"),
    (VECTORS, lambda: X + 1j, TypeError, "got dtype complex128 (complex numbers)"),
    (VECTORS, lambda: X.astype("M8[D]"), TypeError, "got dtype datetime64[D] (dates)"),
    (VECTORS, lambda: X.astype("m8[s]"), TypeError, "(durations)"),
    (VECTORS, lambda: np.zeros(4, "f4,f4,f4"), TypeError, "(records)"),
    (VECTORS, lambda: masked(1, 2), ValueError, "got a masked array with 2 masked: what is masked would be lost"),
    (VECTORS, lambda: [masked(1)], ValueError, "got a masked array with 1 masked"),
    (VECTORS, lambda: list(masked(0)), ValueError, "got a masked array with 1 masked"),
    (VECTORS, lambda: [[1.0, np.ma.masked, 2.0]], ValueError, "got a masked array with 1 masked"),
    (VECTORS, lambda: [[1, 2, 3], [4, 5]], ValueError, f"{DIFFERENT}sample 0 has shape (3,), sample 1 has shape (2,)"),
    (VECTORS, lambda: [X[0], X[0, :2]], ValueError, f"{DIFFERENT}sample 0 has shape (3,), sample 1 has shape (2,)"),
    (VECTORS, lambda: np.array([[1, 2, 3], [4]], object), ValueError, f"{DIFFERENT}sample 0 has shape (3,), sample 1"),
    (VECTORS, lambda: [[[1], [2, 3]], [[1], [2]]], ValueError, f"{DIFFERENT}sample 0 holds lists of different lengths"),
    (VECTORS, lambda: np.array([None] * 3), TypeError, "among them NoneType; leave these columns or values out"),
    (VECTORS, lambda: Frame(np.array([[1, "a", 2]], object)), TypeError, "a Frame of Python objects (dtype object)"),
    (VECTORS, lambda: Frame(np.array([[1, 2.5, 2]], object)), TypeError, "all of them numbers; use .astype(float)"),
    (VECTORS, lambda: 5.0, ValueError, "got (): a single number"),
    (VECTORS, list, ValueError, "got (0,): there are no samples"),
    (VECTORS, lambda: (X, np.zeros(4, int)), ValueError, "targets are an argument of their own: fit(x, y)"),
    (VECTORS, lambda: (X, X), ValueError, "got a tuple of 2, the first two of shape (4, 3) and (4, 3); targets are an"),
    (VECTORS, lambda: [X, X, X], ValueError, "parts of one set: np.concatenate(x)"),
    (VECTORS, lambda: X[0], ValueError, "x: expected shape (samples, 3), got (3,); one sample needs an axis in front"),
    (VECTORS, lambda: X.T, ValueError, "got (3, 4); its axes fit in another order: x.T"),
    (VECTORS, lambda: X[:, :, None], ValueError, "as many numbers in another shape: x.reshape(-1, 3)"),
    (VECTORS, lambda: X[:, :2], ValueError, "x: expected shape (samples, 3), got (4, 2)"),
    (IMAGES, lambda: np.zeros((1, 6, 5)), ValueError, "got (1, 6, 5); one sample needs an axis in front: x[None]"),
    (IMAGES, lambda: np.zeros((9, 6, 5)), ValueError, "an axis of size 1 is missing: x[:, None]"),
    (IMAGES, lambda: np.zeros((9, 6, 5, 1)), ValueError, "before height and width): x.transpose(0, 3, 1, 2)"),
    (IMAGES, lambda: np.zeros((6, 5, 1, 9)), ValueError, "x.transpose(3, 2, 0, 1)"),
    (IMAGES, lambda: np.zeros((6, 5, 1)), ValueError, "axes fit in another order: x.transpose(2, 0, 1)[None]"),
    (IMAGES, lambda: np.zeros((6, 5)), ValueError, "one sample in another shape: x.reshape(1, 1, 6, 5)"),
    (IMAGES, lambda: np.zeros((9, 30)), ValueError, "x.reshape(-1, 1, 6, 5)"),
    (NAMED, lambda: np.zeros((3, 2, 5)), ValueError, "x (photo): expected shape (samples, 2, 4), got (3, 2, 5)"),
    (NAMED, lambda: (row for row in X), TypeError, "x (photo): expected numbers, got a generator"),
    (FREE, lambda: np.zeros((3, 0, 2)), ValueError, "x: expected shape (samples, any, 2), got (3, 0, 2)"),
    (TOKENS, lambda: np.zeros(3), TypeError, "an array of int64, got dtype float64; where they are whole"),
    (TOKENS, lambda: np.array([2**63], "uint64"), ValueError, "which int64 holds exactly"),
    (MASK, lambda: X, TypeError, "x: expected an array of bool, got dtype float64; make booleans of them: x != 0"),
    (SMALL, lambda: np.full((2, 3), -1, "int8"), ValueError, "expected whole numbers from 0 to 65535"),
    (VECTORS, lambda: np.full((2, 3), 2**24 + 1), ValueError, "for labels and tokens make it Input(shape"),
    (TWO, lambda: X, ValueError, "expected 2 arrays (a, tokens), got one of shape (4, 3); pass a"),
    (TWO, lambda: None, TypeError, "x: expected 2 arrays (a, tokens), got None"),
    (TWO, lambda: [X], ValueError, "x: expected 2 arrays (a, tokens), got 1"),
    (TWO, lambda: {"a": X}, ValueError, "under the names of the inputs (a, tokens), got a"),
    (TWO, lambda: [X, np.zeros(3, int)], ValueError, "x (tokens): expected 4 samples like the first input, got 3"),
    (TWO, lambda: [X, (n for n in range(4))], TypeError, "x (tokens): expected an array of int64, got a generator"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "make", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_words(inputs, make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        check_inputs(inputs, make(), FLOAT32)


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array", "lil_matrix"])
def test_sparse_matrices(kind):
    make = getattr(pytest.importorskip("scipy.sparse"), kind)
    for x in (make(X), [make(X)], {"input": make(X)}):
        with pytest.raises(TypeError, match=re.escape(SPARSE)):
            check_inputs(VECTORS, x, FLOAT32)
    with pytest.raises(TypeError, match="which are sparse"):
        check_inputs({"input": Spec((4, 3))}, [make(X), make(X)], FLOAT32)


def test_an_object_that_cannot_be_read_is_named():
    class Locked:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the file is closed")

    with pytest.raises(
        TypeError, match="x: expected numbers, got a Locked, of which NumPy makes no array: the file is"
    ):
        check_inputs(VECTORS, Locked(), FLOAT32)
