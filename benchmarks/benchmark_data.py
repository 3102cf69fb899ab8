"""Data sets: reading files of the real formats, and making batches of them."""

import gzip
import tempfile
from pathlib import Path

import numpy as np

from minitrain import datasets

from .common import Timed, once

IMAGES = 2000


def write_mnist(folder, images=IMAGES, compress=True):
    """Write random images and labels as the t10k files of MNIST."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 28, 28), np.uint8)
    digits = (np.arange(images) % 10).astype(np.uint8)
    for kind, content in (("images-idx3", pixels), ("labels-idx1", digits)):
        header = bytes([0, 0, 8, content.ndim]) + np.array(content.shape, ">u4").tobytes()
        data = header + content.tobytes()
        name = f"t10k-{kind}-ubyte"
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, 6))
        else:
            (folder / name).write_bytes(data)


def write_cifar10(folder, images=IMAGES):
    """Write random records as the six batches of CIFAR-10."""
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (images // 5, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())


class Load(Timed):
    params = (["digits", "synthetic", "mnist", "mnist compressed", "cifar10"],)
    param_names = ("data",)

    @once
    def setup(self, data):
        self.name, *compressed = data.split()
        self.folder = None
        if self.name in ("mnist", "cifar10"):
            self.temporary = tempfile.TemporaryDirectory()
            self.folder = Path(self.temporary.name)
            if self.name == "mnist":
                write_mnist(self.folder, compress=bool(compressed))
            else:
                write_cifar10(self.folder)
        datasets.load(self.name, self.folder)

    def time_load(self, data):
        datasets.load(self.name, self.folder)
