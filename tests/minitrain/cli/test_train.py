"""Runs of the command line: refused ones touch nothing, those that were ended go on."""

import csv
import importlib
import json
import signal
import subprocess
import sys

import pytest
from children import hear_hangups
from paths import ROOT

from minitrain import Model
from minitrain.cli import main
from minitrain.training.run_folder import read_config

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

FILES = ["config.json", "curves.png", "history.csv", "weights.safetensors"]
TRAIN = ["train", "digits", "--model", "mlp", "--epochs", "3", "--batch-size", "64"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def bits(folder):
    return Model.load(folder / "weights.safetensors").flat_params.tobytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "wrong",
    [
        ["--batch-size", "1"],
        ["--model", "plain", "--depth", "3", "--momentum", "0.5"],
        ["--lr", "nan"],
        ["--l2", "-1"],
        ["--clip-norm", "0"],
        ["--seed", "-1"],
        ["--warmup-epochs", "-2"],
        ["--activation", "swish"],
        ["--data-folder", "/dev/null/nowhere"],
    ],
)
def test_what_is_refused_leaves_a_finished_run_as_it_was(run, wrong, capsys):
    before = contents(run)
    dataset = ["mnist"] if "--data-folder" in wrong else ["digits"]
    assert main(["train", *dataset, *TRAIN[2:], "--out", str(run), "--force", *wrong]) == 2
    assert contents(run) == before
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("package", ["safetensors", "matplotlib.figure"])
def test_a_missing_package_is_told_before_anything_is_touched(run, package, monkeypatch, capsys):
    before = contents(run)
    for name in [each for each in sys.modules if each.partition(".")[0] == package.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("minitrain.optional.importlib.import_module", _without(package.partition(".")[0]))
    assert main([*TRAIN, "--out", str(run), "--force"]) == 2
    assert "pip install" in capsys.readouterr().err
    assert contents(run) == before


def _without(package):
    import_module = importlib.import_module

    def missing(name):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(name, name=package)
        return import_module(name)

    return missing


def test_force_clears_the_former_run(run, tmp_path):
    folder = tmp_path / "run {epoch} é"
    assert main([*TRAIN, "--out", str(folder), "--seed", "4"]) == 0
    (folder / "notes.txt").write_text("mine")
    assert main([*TRAIN, "--out", str(folder), "--force"]) == 0
    assert sorted(contents(folder)) == sorted([*FILES, "notes.txt"])
    assert bits(folder) == bits(run)


def start(*arguments):
    command = [sys.executable, "-m", "minitrain", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=hear_hangups
    )


LONG = ["train", "digits", "--model", "mlp", "--epochs", "40", "--batch-size", "64", "--save-every-steps", "3"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "long"
    assert main([*LONG, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGKILL, -9, "killed"),
        (signal.SIGTERM, 143, "interrupted"),
        (signal.SIGHUP, 129, "interrupted"),
    ],
)
def test_a_run_that_was_ended_goes_on(tmp_path, long_run, number, code, status, capsys):
    folder = tmp_path / "run"
    process = start(*LONG, "--out", folder)
    for line in process.stdout:
        if line.startswith("epoch  4"):
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert read_config(folder)["status"] == status
    assert all(None not in row.values() for row in csv.DictReader((folder / "history.csv").open()))
    assert main(["train", "--resume", str(folder)]) == 0
    assert bits(folder) == bits(long_run)
    assert read_config(folder)["status"] == "finished"
    assert sorted(contents(folder)) == FILES
    ours, theirs = (list(csv.DictReader((each / "history.csv").open())) for each in (folder, long_run))
    for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert [row[name] for row in ours] == [row[name] for row in theirs], name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "32"], "--batch-size: the run"),  # the default is a contradiction, too, when it is typed
        (["--lr", "0.5"], "--lr: the run"),
        (["--optimizer", "sgd"], "--optimizer: the run"),
        (["--epochs", "9"], "the schedule would be another"),
        (["--seed", "1"], "--seed: the run"),
        (["--out", "elsewhere"], "leave out --out"),
        (["mnist"], "dataset: the run"),
    ],
)
def test_other_settings_of_a_resumed_run_are_refused(run, more, message, capsys):
    before = contents(run)
    assert main(["train", "--resume", str(run), *more]) == 2
    assert message in capsys.readouterr().err
    assert contents(run) == before


def test_the_same_settings_of_a_resumed_run_are_fine(run):
    before = bits(run)
    assert main(["train", "digits", "--resume", str(run), "--batch-size", "64", "--epochs", "3", "--threads", "1"]) == 0
    assert bits(run) == before


def test_more_epochs_where_nothing_depends_on_their_number(tmp_path):
    both = [[*TRAIN, "--schedule", "constant", "--epochs", epochs] for epochs in ("1", "2")]
    assert main([*both[0], "--out", str(tmp_path / "a")]) == main([*both[1], "--out", str(tmp_path / "b")]) == 0
    assert main(["train", "--resume", str(tmp_path / "a"), "--epochs", "2"]) == 0
    assert bits(tmp_path / "a") == bits(tmp_path / "b")


def test_what_cannot_go_on(tmp_path, capsys):
    for arguments, message in [
        (["train"], "DATASET: required"),
        (["train", "digits"], "--out: required"),
        (["train", "--resume", str(tmp_path)], "no config.json"),
        (["train", "--resume", str(tmp_path / "none")], "no config.json"),
    ]:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_a_run_that_another_process_writes_is_left_alone(tmp_path, capsys):
    process = start("train", "digits", "--model", "mlp", "--epochs", "100000", "--out", tmp_path / "run")
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    try:
        assert read_config(tmp_path / "run")["status"] == "running"
        assert main([*TRAIN, "--out", str(tmp_path / "run"), "--force"]) == 2
        assert f"process {process.pid} is writing this run" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def test_an_unforeseen_error_is_no_running_run(tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("minitrain.callbacks.checkpoint.save_checkpoint", broken)
    assert main([*TRAIN, "--out", str(tmp_path)]) == 2
    assert json.loads((tmp_path / "config.json").read_text())["status"] == "failed"
