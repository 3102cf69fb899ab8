"""The command line on the ranks of an MPI program."""

import numpy as np
import pytest

pytest.importorskip("mpi4py")
pytest.importorskip("sklearn")

import ranks

from minitrain import Model
from minitrain.cli import main

TRAIN = ["-m", "minitrain", "train", "digits", "--model", "mlp", "--epochs", "2", "--batch-size", "64"]


def test_two_ranks_train_what_one_process_does_and_one_of_them_talks(tmp_path):
    done = ranks.run(2, [*TRAIN, "--out", tmp_path / "two"])
    assert done.returncode == 0, done.stderr
    assert main([*TRAIN[2:], "--out", str(tmp_path / "one")]) == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["mlp", "epoch", "epoch", "held-out", "written"]
    found = [Model.load(tmp_path / each / "weights.safetensors").flat_params for each in ("one", "two")]
    assert np.abs(found[0] - found[1]).max() < 1e-3  # float32, whose rounding grows with the steps
    names = [sorted(each.name for each in (tmp_path / run).iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]


def test_what_is_refused_is_said_once(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    done = ranks.run(2, [*TRAIN, "--out", tmp_path])
    assert done.returncode == 2
    assert done.stderr.count("--out") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]
