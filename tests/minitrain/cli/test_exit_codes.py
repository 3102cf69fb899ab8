"""Exit codes and messages of the command line: options as they were typed, readers that go away, full disks."""

import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from minitrain import models
from minitrain.cli import main

ON_LINUX = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "-1"], "--lr: expected a finite number >= 0"),
        (["--lr", "-1", "--schedule", "constant"], "--lr: expected"),
        (["--lr", "-1", "--schedule", "one-cycle"], "--lr: expected"),
        (["--lr", "-1", "--schedule", "step"], "--lr: expected"),
        (["--l2", "-1"], "--l2: expected"),
        (["--clip-norm", "0"], "--clip-norm: expected"),
        (["--optimizer", "adamw", "--weight-decay", "-1"], "--weight-decay: expected"),
        (["--optimizer", "sgd", "--momentum", "2"], "--momentum: expected"),
        (["--seed", "-1"], "--seed: expected"),
        (["--activation", "sine"], "--activation: expected"),
    ],
)
def test_messages_name_the_option(arguments, message, tmp_path, capsys):
    assert main(["train", "digits", "--model", "mlp", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"minitrain: error: {message}")
    assert not (tmp_path / "run").exists()


def start(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "minitrain", *map(str, arguments)], env=environment, **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("net")
    models.mlp((4,), 3, hidden=()).save(folder / "net.safetensors")
    np.save(folder / "x.npy", np.zeros((5000, 4), "float32"))
    return folder


def closed_pipe():
    """The end to write to of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


def test_a_reader_that_has_gone(weights):
    process = start("predict", weights / "net.safetensors", weights / "x.npy", stdout=closed_pipe(), stderr=-1)
    error = process.communicate(timeout=100)[1]
    assert (process.returncode, error) == (141, b"")


@ON_LINUX
def test_a_full_disk_under_the_output(weights):
    with open("/dev/full", "w") as full:
        process = start("predict", weights / "net.safetensors", weights / "x.npy", stdout=full, stderr=-1)
        error = process.communicate(timeout=100)[1].decode()
    assert process.returncode == 2
    assert len(error.splitlines()) == 1
    assert "No space left on device" in error


@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_training_goes_on_without_readers(streams, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("safetensors")
    streams = {"stdout": closed_pipe(), "stderr": closed_pipe() if streams == "both" else subprocess.PIPE}
    process = start("train", "digits", "--model", "mlp", "--epochs", 2, "--out", tmp_path / "run", **streams)
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3
