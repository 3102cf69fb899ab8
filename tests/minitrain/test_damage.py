"""Damaged files of every format: a ValueError that names the file, or exactly what was written."""

import gzip
import io
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from minitrain import Trainer, datasets, losses, models, optimizers
from minitrain.checkpoint import restore, save_checkpoint
from minitrain.cli.predict import read_images
from minitrain.model import Model

RNG = np.random.default_rng(0)
FLIPS = int(os.environ.get("MINITRAIN_TEST_FLIPS", "150"))  # of each format, in one run of the tests
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def net(activation="relu"):
    return models.mlp((2,), 2, hidden=(2,), activation=activation, norm=None)


def trainer_of(model):
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))


def write_model(path):
    net().save(path)


def read_model(path):
    model = Model.load(path)
    return [*model.params.items(), repr(model.graph)]


def write_checkpoint(path):
    trainer = trainer_of(net())
    trainer.step(np.ones((4, 2)), [0, 1, 0, 1])
    save_checkpoint(trainer, path)


def read_checkpoint(path):
    trainer = trainer_of(net())
    restore(trainer, path)
    return [*trainer.model.params.items(), *trainer.slots.items(), trainer.steps, trainer.epoch]


def idx():
    images = RNG.integers(0, 256, (3, 4, 4), np.uint8)
    return struct.pack(">HBBIII", 0, 8, 3, *images.shape) + images.tobytes()


def cifar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in BATCHES:
            content = bytes([7]) + RNG.integers(0, 4, 3072, np.uint8).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read_cifar(path):
    (x, y), (x2, y2) = datasets.load("cifar10", folder=path.parent)
    return [x, y, x2, y2]


def png():
    rows = b"".join(b"\0" + bytes(row) for row in RNG.integers(0, 256, (4, 4), np.uint8))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def npy():
    stream = io.BytesIO()
    np.save(stream, RNG.random((3, 4, 4)))
    return stream.getvalue()


def npz(write=np.savez):
    stream = io.BytesIO()
    write(stream, x=RNG.random((3, 4, 4)))
    return stream.getvalue()


def read_picture(path):
    return [read_images(path, (1, 4, 4))]


# Name of the file, what writes it or its content, what reads it, and whether a flipped bit always shows: where a format
# has no checksum it may be another number.
FORMATS = {
    "model": ("m.safetensors", write_model, read_model, True),
    "checkpoint": ("c.safetensors", write_checkpoint, read_checkpoint, True),
    "idx": ("t10k-images-idx3-ubyte", idx, lambda path: [datasets.read_idx(path)], False),
    "idx.gz": ("images.gz", lambda: gzip.compress(idx(), mtime=0), lambda path: [datasets.read_idx(path)], True),
    "cifar": ("cifar-10-binary.tar.gz", cifar, read_cifar, True),
    "npy": ("x.npy", npy, read_picture, False),
    "npz": ("x.npz", npz, read_picture, False),
    "npz, deflated": ("y.npz", lambda: npz(np.savez_compressed), read_picture, False),
    "png": ("a.png", png, read_picture, False),
}


@pytest.fixture(params=FORMATS)
def written(request, tmp_path):
    name, make, read, is_exact = FORMATS[request.param]
    path = tmp_path / "with spaces, ä" / name
    path.parent.mkdir()
    if request.param in ("model", "checkpoint"):
        pytest.importorskip("safetensors")
        make(path)
    else:
        path.write_bytes(make())
    return path, read, is_exact


def same(a, b):
    return str(a) == str(b) and all(
        np.array_equal(x[-1] if isinstance(x, tuple) else x, y[-1] if isinstance(y, tuple) else y)
        for x, y in zip(a, b, strict=True)
    )


def attempt(path, read, content):
    """Read what is there now: None where it was refused as it should be."""
    path.write_bytes(content)
    try:
        return read(path)
    except ValueError as error:
        message = str(error)
    assert path.name in message
    assert "\n" not in message
    return None


def test_every_truncation(written):
    path, read, _ = written
    content, expected = path.read_bytes(), read(path)
    lengths = range(len(content)) if len(content) < 1000 else sorted({0, 1, *RNG.integers(0, len(content), 300)})
    for length in lengths:
        got = attempt(path, read, content[:length])
        assert got is None or same(got, expected), length
    for more in (b"\0", b"more"):
        got = attempt(path, read, content + more)
        assert got is None or same(got, expected)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bits(written):
    path, read, is_exact = written
    content, expected = path.read_bytes(), read(path)
    for position in RNG.integers(0, 8 * len(content), FLIPS):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << (position % 8)
        got = attempt(path, read, bytes(damaged))
        assert got is None or not is_exact or same(got, expected), position


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04", b"\x1f\x8b", b"<html>", bytes(100)])
def test_other_files(written, content):
    path, read, _ = written
    assert attempt(path, read, content) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_refused_at_once(written, make):
    path, read, _ = written
    path.unlink()
    make(path)
    with pytest.raises((ValueError, OSError)) as caught:
        read(path)
    assert path.name in str(caught.value) or path.parent.name in str(caught.value)


def test_an_encrypted_archive(tmp_path):
    content = bytearray(npz())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path = tmp_path / "e.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"e\.npz: not a readable \.npz archive .*encrypted"):
        read_images(path, (1, 4, 4))


@pytest.mark.parametrize("name", ["o.npy", "o.npz"])
def test_pickled_objects(tmp_path, name):
    path = tmp_path / name
    things = np.array([{}, None], dtype=object)
    np.save(path, things, allow_pickle=True) if name.endswith("npy") else np.savez(path, x=things)
    with pytest.raises(ValueError, match=name):
        read_images(path, (1, 4, 4))


def test_what_claims_more_than_it_has(tmp_path):
    path = tmp_path / "big.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 4, 4)})
    with pytest.raises(ValueError, match=r"big\.npy"):
        read_images(path, (1, 4, 4))


def test_another_net(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(trainer_of(net("relu")), path)
    other = trainer_of(net("tanh"))
    before = other.model.flat_params.copy()
    with pytest.raises(ValueError, match=r"c\.safetensors: another net: expected .*Tanh.*got .*ReLU"):
        restore(other, path)
    np.testing.assert_array_equal(other.model.flat_params, before)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = tmp_path / "target"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    before = path.stat().st_mode
    with pytest.raises(OSError, match="expected a file to write"):
        net().save(path)
    assert path.stat().st_mode == before
    assert not list(tmp_path.glob(".*"))


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    net().save("~/nets/m.safetensors")
    assert (tmp_path / "nets" / "m.safetensors").is_file()
    assert Model.load("~/nets/m.safetensors").count_parameters() == net().count_parameters()


@pytest.mark.parametrize("spelling", ["{}-idx{}-ubyte", "{}.idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte.gz"])
def test_names_of_idx_files(tmp_path, spelling):
    images = RNG.integers(0, 256, (20, 28, 28), np.uint8)
    parts = {
        ("images", 3): struct.pack(">HBBIII", 0, 8, 3, 20, 28, 28) + images.tobytes(),
        ("labels", 1): struct.pack(">HBBI", 0, 8, 1, 20) + bytes(index % 10 for index in range(20)),
    }
    for half in ("train", "t10k"):
        for (what, axes), content in parts.items():
            name = spelling.format(f"{half}-{what}", axes)
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (x, _), _ = datasets.load("mnist", folder=tmp_path)
    assert x.shape == (20, 1, 28, 28)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_a_picture_is_one_row(tmp_path, channels, planes):
    """Whatever colours it has and the net wants; what is transparent lies on white."""
    image = pytest.importorskip("matplotlib.image")
    pixels = RNG.random((4, 4, planes)).astype("f4") if planes > 2 else RNG.random((4, 4, 1)).astype("f4").repeat(3, 2)
    if planes in (2, 4):
        alpha = np.ones((4, 4, 1), "f4")
        alpha[0] = 0
        pixels = np.concatenate([pixels[:, :, :3], alpha], axis=2)
    path = tmp_path / "a.png"
    image.imsave(path, pixels)
    x = read_images(path, (channels, 4, 4))
    assert x.shape == (1, channels, 4, 4)
    if planes in (2, 4):
        np.testing.assert_allclose(x[0, :, 0], 1, atol=1e-6)
    shown = pixels[1:, :, :3].transpose(2, 0, 1)
    wanted = shown if channels == 3 else np.tensordot([0.299, 0.587, 0.114], shown, axes=1)[None]
    np.testing.assert_allclose(x[0, :, 1:], wanted, atol=0.01)
