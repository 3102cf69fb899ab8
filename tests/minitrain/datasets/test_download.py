"""Downloads, from a server that the test runs on this machine."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
from dataset_files import CIFAR10, MNIST, archive, as_bytes, batches, check_split, write_mnist

from minitrain import datasets
from minitrain.datasets import download


@pytest.fixture
def server(tmp_path):
    """A folder that is served on this machine, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


def sums(folder):
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_download(tmp_path, server, monkeypatch):
    pytest.importorskip("pooch")
    served, address = server
    cache = tmp_path / "cache"
    monkeypatch.setattr(download, "cache_folder", lambda name: cache / name)
    written = write_mnist(served, {"t10k": 5, "train": 8})
    monkeypatch.setattr(MNIST, "MNIST_FILES", sums(served))
    monkeypatch.setattr(MNIST, "MNIST_MIRRORS", (f"{address}/nothing-here", address))

    with pytest.raises(FileNotFoundError, match=r"mnist: expected t10k-.*allow the download or give a folder"):
        datasets.load("mnist", download=False)
    for _ in range(2):  # the second time from the cache
        (_, y_train), (_, y_test) = datasets.load("mnist")
        np.testing.assert_array_equal(y_train, written["train"][1])
        np.testing.assert_array_equal(y_test, written["t10k"][1])
        for path in served.iterdir():
            path.unlink()
    datasets.load("mnist", download=False)

    (cache / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"mnist: expected to download train-labels.*, got .*give its folder"):
        datasets.load("mnist")


def test_download_with_a_wrong_sum(tmp_path, server, monkeypatch):
    pytest.importorskip("pooch")
    served, address = server
    monkeypatch.setattr(download, "cache_folder", lambda name: tmp_path / "cache" / name)
    (served / CIFAR10.ARCHIVE).write_bytes(archive(as_bytes(batches())))
    monkeypatch.setattr(CIFAR10, "MIRRORS", (address,))
    with pytest.raises(OSError, match=r"cifar10: expected to download .*hash"):
        datasets.load("cifar10")
    assert not list((tmp_path / "cache" / "cifar10").iterdir())
    monkeypatch.setattr(CIFAR10, "FILES", sums(served))
    check_split(datasets.load("cifar10"), (3, 32, 32))
