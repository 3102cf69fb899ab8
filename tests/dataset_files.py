"""Small data set files for the tests: IDX and CIFAR-10 content, and what every loaded data set must be."""

import gzip
import importlib
import io
import tarfile

import numpy as np

MNIST = importlib.import_module("minitrain.datasets.mnist")  # modules whose names the functions take in the package
CIFAR10 = importlib.import_module("minitrain.datasets.cifar10")
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array):
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    return header + np.array(array.shape, ">u4").tobytes() + array.astype(array.dtype.newbyteorder(">")).tobytes()


def images_and_labels(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    return images, rng.integers(0, 10, count, np.uint8)


def write_mnist(folder, parts, compress=True):
    """Write IDX files {"t10k": count, "train": count} and return what is in them."""
    written = {}
    for seed, (part, count) in enumerate(parts.items()):
        written[part] = images_and_labels(count, seed)
        for kind, array in zip(("images-idx3", "labels-idx1"), written[part], strict=True):
            content = idx_bytes(array)
            path = folder / f"{part}-{kind}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content, 1) if compress else content)
    return written


def check_split(split, shape, classes=10):
    (x_train, y_train), (x_test, y_test) = split
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.float32
        assert x.shape == (len(y), *shape)
        assert x.flags.c_contiguous
        assert x.min() >= 0
        assert x.max() <= 1
        assert y.dtype == np.int64
        assert y.min() >= 0
        assert y.max() < classes


def records(count, seed):
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 256, (count, 3073), np.uint8)
    batch[:, 0] = rng.integers(0, 10, count)
    return batch


def batches():
    return {name: records(3 + i, i) for i, name in enumerate((*CIFAR10.TRAIN, CIFAR10.TEST))}


def archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def as_bytes(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}
