"""The IDX reader and the MNIST loaders on good, small and malformed files, and on the real ones where they are."""

import gzip
import tracemalloc

import numpy as np
import pytest
from dataset_files import CODES, check_split, idx_bytes, images_and_labels, write_mnist
from paths import MNIST

from minitrain import datasets
from minitrain.datasets import read_idx


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("compress", [False, True])
def test_idx_round_trip(tmp_path, dtype, compress):
    array = (np.random.default_rng(0).standard_normal((3, 4, 5)) * 50).astype(dtype)
    path = tmp_path / "array"
    path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


GOOD = idx_bytes(np.arange(10, dtype=np.uint8))

MALFORMED = {
    "empty": (b"", "header: expected 4 bytes, got 0"),
    "short header": (GOOD[:6], "header: expected 4 bytes, got 2"),
    "bad magic": (b"\1" + GOOD[1:], "expected an IDX magic number .*, got 0x01000801"),
    "unknown dtype": (GOOD[:2] + b"\x0a" + GOOD[3:], "expected an IDX magic number"),
    "no axes": (GOOD[:3] + b"\0" + GOOD[4:], "expected an IDX magic number"),
    "too short": (GOOD[:-1], r"data of shape \(10,\): expected 10 bytes, got 9"),
    "too long": (GOOD + b"\0", r"expected 10 bytes of data for shape \(10,\), got more"),
    "huge": (GOOD[:3] + b"\3" + b"\xff" * 12, "expected at most 1073741824 bytes of data"),
    "gzip too short": (gzip.compress(GOOD[:-1]), "expected 10 bytes, got 9"),
    "gzip too long": (gzip.compress(GOOD + b"\0" * 9), "got more"),
    "gzip truncated": (gzip.compress(GOOD)[:-9], "expected a complete gzip file"),
    "gzip without trailer": (gzip.compress(GOOD)[:-4], "expected a complete gzip file"),
    "gzip wrong sum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "expected a complete gzip file"),
    "gzip garbage": (b"\x1f\x8b\x08" + b"garbage" * 5, "expected a complete gzip file"),
    "gzip then garbage": (gzip.compress(GOOD) + b"garbage", "expected a complete gzip file"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_idx(tmp_path, case):
    content, message = MALFORMED[case]
    path = tmp_path / "digits-idx1"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"digits-idx1.*{message}"):
        read_idx(path)


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "array"
    for content in (GOOD, gzip.compress(GOOD)):
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match="array"):
                read_idx(path)


def test_memory_is_bounded(tmp_path):
    bomb, liar = tmp_path / "bomb", tmp_path / "liar"
    bomb.write_bytes(gzip.compress(GOOD + bytes(64 << 20)))
    liar.write_bytes(GOOD[:3] + b"\1" + (1 << 30).to_bytes(4, "big") + b"\0" * 100)
    tracemalloc.start()
    try:
        for path, message in ((bomb, "got more"), (liar, "expected 1073741824 bytes, got 100")):
            with pytest.raises(ValueError, match=message):
                read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [False, True])
def test_mnist_folder(tmp_path, compress):
    written = write_mnist(tmp_path, {"t10k": 10, "train": 15}, compress)
    for load in (datasets.mnist, datasets.fashion_mnist):
        split = load(tmp_path)
        check_split(split, (1, 28, 28))
        for (x, y), part in zip(split, ("train", "t10k"), strict=True):
            images, labels = written[part]
            np.testing.assert_array_equal(x[:, 0], images.astype(np.float32) / np.float32(255))
            np.testing.assert_array_equal(y, labels)
    (x_train, _), _ = datasets.load("mnist", str(tmp_path), dtype="float64")
    np.testing.assert_array_equal(x_train[:, 0], written["train"][0] / 255)


def test_mnist_without_training_files_is_split(tmp_path):
    written = write_mnist(tmp_path, {"t10k": 10})
    (x_train, y_train), (x_test, y_test) = datasets.load("mnist", tmp_path)
    assert (len(x_train), len(x_test)) == (8, 2)
    np.testing.assert_array_equal(np.concatenate([y_train, y_test]), written["t10k"][1])


@pytest.mark.skipif(not MNIST.is_dir(), reason="the real MNIST files are not beside the checkout")
def test_real_mnist():
    split = datasets.load("mnist", MNIST)
    check_split(split, (1, 28, 28))
    (x_train, y_train), (x_test, y_test) = split
    assert (len(x_train), len(x_test)) == (8000, 2000)
    assert y_train[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(np.concatenate([y_train, y_test])).tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    ]
    assert x_train.max() == 1


def test_malformed_mnist(tmp_path):
    def fails(name, content, message, error=ValueError):
        write_mnist(tmp_path, {"t10k": 5, "train": 5}, compress=False)
        path = tmp_path / name
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(error, match=message):
            datasets.load("mnist", tmp_path)

    images, labels = images_and_labels(5)
    name = "train-images-idx3-ubyte"
    fails(name, idx_bytes(images[:, :27]), rf"{name}: expected uint8 images \(N, 28, 28\), got uint8 \(5, 27, 28\)")
    fails(name, idx_bytes(images.astype("int16")[:, ::2]), f"{name}: expected uint8 images")
    fails(name, idx_bytes(labels), f"{name}: expected uint8 images")
    fails(name, idx_bytes(images[:0]), f"{name}: expected uint8 images")
    fails(name, idx_bytes(np.zeros((60_001, 28, 28), np.uint8)), f"{name}: expected at most 47040000 bytes")
    fails(name, None, rf"expected {name} or {name}\.gz in", FileNotFoundError)
    name = "t10k-labels-idx1-ubyte"
    fails(name, idx_bytes(labels[:4]), rf"{name}: expected one uint8 label for each of 5 images, got uint8 \(4,\)")
    fails(name, idx_bytes(images), f"{name}: expected one uint8 label|{name}: expected at most")
    fails(name, idx_bytes(np.array([0, 1, 2, 10, 3], np.uint8)), f"{name}: expected labels 0 to 9, got 10 at 3")
    fails(name, None, f"expected {name}", FileNotFoundError)
