"""`datasets.load`: the made data sets, errors, optional packages."""

import sys

import numpy as np
import pytest
from dataset_files import check_split

from minitrain import datasets
from minitrain.datasets import read_idx
from minitrain.optional import require


def test_digits():
    pytest.importorskip("sklearn")
    split = datasets.load("digits")
    check_split(split, (1, 8, 8))
    (x_train, y_train), (x_test, y_test) = split
    assert (len(x_train), len(x_test)) == (1437, 360)
    share = np.bincount(y_test) / np.bincount(np.concatenate([y_train, y_test]))
    assert share == pytest.approx(np.full(10, 0.2), abs=0.01)
    assert set(np.unique(x_train * 16)) == set(range(17))
    for other, same in ((datasets.load("digits"), True), (datasets.load("digits", seed=1), False)):
        assert np.array_equal(other[0][0], x_train) == same
    assert len(datasets.digits(test_fraction=0.5)[1][0]) == 899


def test_synthetic():
    options = {"shape": (2, 12, 9), "classes": 7, "train": 300, "test": 75}
    split = datasets.load("synthetic", **options)
    check_split(split, (2, 12, 9), classes=7)
    (x_train, y_train), (x_test, y_test) = split
    assert np.ptp(np.bincount(y_train)) <= 1
    again, other = datasets.load("synthetic", **options), datasets.load("synthetic", seed=1, **options)
    np.testing.assert_array_equal(again[0][0], x_train)
    np.testing.assert_array_equal(again[1][1], y_test)
    assert not np.array_equal(other[0][0], x_train)
    nearest = ((x_test[:, None] - x_train[None]) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(y_train[nearest] == y_test) > 0.9
    check_split(datasets.synthetic(shape=(1, 1, 1), classes=1, train=1, test=1), (1, 1, 1), classes=1)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("imagenet",), {}, ValueError, "name: expected 'digits', .* or 'cifar10', got 'imagenet'"),
        (("digits", "somewhere"), {}, ValueError, "folder: expected None for digits, which has no files"),
        (("digits",), {"dtype": "int8"}, ValueError, "dtype: expected float32 or float64, got 'int8'"),
        (("digits",), {"dtype": "nonsense"}, ValueError, "dtype: expected float32 or float64"),
        (("digits",), {"dtype": None}, ValueError, "dtype: expected float32 or float64, got None"),
        (("digits",), {"test_fraction": 0}, ValueError, "test_fraction: expected a finite number > 0 and < 1, got 0"),
        (("digits",), {"size": 3}, TypeError, "size"),
        (("mnist", "no/such/folder"), {}, FileNotFoundError, "folder: expected a folder, but .* does not exist"),
        (("mnist", __file__), {}, NotADirectoryError, "folder: expected a folder, but .* is a file"),
        (("synthetic",), {"shape": (3, 3)}, ValueError, r"shape: expected \(C, H, W\), got \(3, 3\)"),
        (("synthetic",), {"train": 0}, ValueError, "train: expected an integer >= 1, got 0"),
        (("synthetic",), {"noise": -1}, ValueError, "noise: expected"),
    ],
)
def test_errors(arguments, options, error, message):
    with pytest.raises(error, match=message):
        datasets.load(*arguments, **options)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected an IDX file"):
        read_idx(tmp_path / "nothing")
    for name, file in (("mnist", "t10k-images-idx3-ubyte"), ("cifar10", "test_batch.bin")):
        with pytest.raises(FileNotFoundError, match=f"folder: expected {file}"):
            datasets.load(name, tmp_path)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_missing_package(monkeypatch, name):
    for module in ("sklearn", "sklearn.datasets", "pooch"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'needs the package (sklearn|pooch): pip install "minitrain\[app\]"'):
        datasets.load(name)


def test_require_tells_missing_from_broken(tmp_path, monkeypatch):
    (tmp_path / "broken_package_of_the_test.py").write_text("import needed_but_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="needed_but_missing") as caught:
        require("broken_package_of_the_test", "testing")
    assert "pip install" not in str(caught.value)
    assert require("math", "testing").pi > 3
