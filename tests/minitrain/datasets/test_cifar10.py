"""The CIFAR-10 loader on small batches as files and as an archive, and on malformed ones."""

import gzip
import tracemalloc

import numpy as np
import pytest
from dataset_files import CIFAR10, archive, as_bytes, batches, check_split, records

from minitrain import datasets


@pytest.mark.parametrize("form", ["files", "folder", "archive"])
def test_cifar10(tmp_path, form):
    expected = batches()
    if form == "archive":
        (tmp_path / CIFAR10.ARCHIVE).write_bytes(archive({"readme.html": b"hello", **as_bytes(expected)}))
    else:
        folder = tmp_path if form == "files" else tmp_path / "cifar-10-batches-bin"
        folder.mkdir(exist_ok=True)
        for name, content in as_bytes(expected).items():
            (folder / name).write_bytes(content)
    split = datasets.load("cifar10", tmp_path)
    check_split(split, (3, 32, 32))
    (x_train, y_train), (_, y_test) = split
    train = np.concatenate([expected[name] for name in CIFAR10.TRAIN])
    np.testing.assert_array_equal(y_train, train[:, 0])
    np.testing.assert_array_equal(y_test, expected[CIFAR10.TEST][:, 0])
    pixels = train[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(x_train, pixels)


def test_malformed_cifar10(tmp_path, monkeypatch):
    good = as_bytes(batches())
    wrong_label = batches()["data_batch_2.bin"]
    wrong_label[1, 0] = 10
    whole = archive(good)
    cases = [
        ({**good, "data_batch_3.bin": good["data_batch_3.bin"][:-1]}, "data_batch_3.bin: expected 1 to 10,000 records"),
        ({**good, "data_batch_3.bin": b""}, "data_batch_3.bin: expected 1 to 10,000 records"),
        ({**good, "data_batch_2.bin": wrong_label.tobytes()}, "data_batch_2.bin: expected labels 0 to 9, got 10 at 1"),
        ({name: good[name] for name in CIFAR10.TRAIN}, "expected six batches, got none named test_batch.bin"),
        (whole[: len(whole) // 2], "expected a complete tar.gz archive"),
        (b"no archive", "expected a complete tar.gz archive"),
        (gzip.compress(b"no archive" * 100), "expected a complete tar.gz archive"),
    ]
    for content, message in cases:
        (tmp_path / CIFAR10.ARCHIVE).write_bytes(content if isinstance(content, bytes) else archive(content))
        with pytest.raises(ValueError, match=message):
            datasets.load("cifar10", tmp_path)
    monkeypatch.setattr(CIFAR10, "MOST_ARCHIVE_BYTES", 1 << 20)
    (tmp_path / CIFAR10.ARCHIVE).write_bytes(archive({"zeros": bytes(64 << 20), **good}))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected at most 1048576 bytes in all, got more"):
            datasets.load("cifar10", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_missing_cifar10_batch(tmp_path):
    (tmp_path / CIFAR10.TEST).write_bytes(records(2, 0).tobytes())
    with pytest.raises(FileNotFoundError, match=r"expected data_batch_1\.bin in"):
        datasets.load("cifar10", tmp_path)
