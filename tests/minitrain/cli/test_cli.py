"""The command line: run folders, exit codes, no traceback for what a user can put right."""

import csv
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from paths import ROOT

from minitrain import Model, datasets, models
from minitrain.cli import build_parser, main

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

FILES = ["config.json", "curves.png", "history.csv", "weights.safetensors"]
TRAIN = ["train", "digits", "--model", "mlp", "--epochs", "2"]


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "minitrain", *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, timeout=200, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a small net."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return folder


def test_lenet_reaches_98_percent_on_digits(tmp_path):
    result = command("train", "digits", "--model", "lenet", "--epochs", 15, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"^epoch +\d+/15 ", result.stdout, re.MULTILINE)) == 15
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    assert json.loads((tmp_path / "run" / "config.json").read_text())["result"]["val_accuracy"] >= 0.98
    (_, _), (x, y) = datasets.load("digits")
    predicted = Model.load(tmp_path / "run" / "weights.safetensors").predict(x).argmax(axis=1)
    assert np.mean(predicted == y) >= 0.98


def test_run_folder(run):
    assert sorted(path.name for path in run.iterdir()) == FILES
    config = json.loads((run / "config.json").read_text())
    assert (config["dataset"], config["model"], config["status"], config["epochs_trained"]) == (
        "digits", "mlp", "finished", 2,
    )  # fmt: skip
    assert config["optimizer"]["class"] == "Adam"
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val_accuracy"]) == config["result"]["val_accuracy"] > 0.8
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_same_command_same_weights(run, tmp_path):
    assert main([*TRAIN, "--out", str(tmp_path)]) == 0
    first, second = (Model.load(folder / "weights.safetensors") for folder in (run, tmp_path))
    assert first.flat_params.tobytes() == second.flat_params.tobytes()


def test_a_run_is_overwritten_only_by_force(run, capsys):
    before = (run / "weights.safetensors").read_bytes()
    assert main([*TRAIN, "--out", str(run)]) == 2
    assert "is not empty; choose another folder, or add --force" in capsys.readouterr().err
    assert main([*TRAIN, "--out", str(run), "--force", "--lr", "-1"]) == 2
    assert (run / "weights.safetensors").read_bytes() == before
    assert main([*TRAIN, "--out", str(run), "--force"]) == 0


def test_evaluate(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    text = capsys.readouterr().out
    assert "digits, test: 360 samples" in text
    assert "precision" in text
    assert "confusion matrix" in text
    assert main(["evaluate", str(run / "weights.safetensors"), "--data", "digits", "--split", "train", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == pytest.approx(np.trace(measured["confusion"]) / 1437)


def test_predict_from_every_kind_of_file(run, capsys, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    (_, _), (x, _) = datasets.load("digits")
    expected = Model.load(run / "weights.safetensors").predict(x[:3]).argmax(axis=1).tolist()
    pixels = np.round(x[:3, 0] * 255).astype(np.uint8)
    np.save(tmp_path / "a.npy", x[:3])
    np.save(tmp_path / "b.npy", pixels)
    np.savez(tmp_path / "c.npz", x=x[:3, 0])
    (tmp_path / "d-ubyte").write_bytes(bytes([0, 0, 8, 3, *(0, 0, 0, 3), *(0, 0, 0, 8) * 2]) + pixels.tobytes())
    for number in range(3):
        image.imsave(tmp_path / f"{number}.png", pixels[number], cmap="gray", vmin=0, vmax=255)
    inputs = [[tmp_path / name] for name in ("a.npy", "b.npy", "c.npz", "d-ubyte")]
    for files in [*inputs, [tmp_path / f"{number}.png" for number in range(3)]]:
        assert main(["predict", str(run), *map(str, files)]) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [int(row["class"]) for row in rows] == expected
        for row in rows:
            assert sum(float(row[f"p{label}"]) for label in range(10)) == pytest.approx(1, abs=1e-5)
    np.save(tmp_path / "e.npy", 1 - x[:3])
    assert main(["predict", str(run), str(tmp_path / "e.npy"), "--invert", "--format", "json"]) == 0
    assert [json.loads(line)["class"] for line in capsys.readouterr().out.splitlines()] == expected


def test_info_of_the_installation_and_of_a_net(run, capsys):
    assert main(["info"]) == 0
    assert {"minitrain", "threads", "cache"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert main(["info", str(run)]) == 0
    text = capsys.readouterr().out
    assert "dense1" in text
    assert '"dataset": "digits"' in text


@pytest.mark.parametrize("words", [[], *[[name] for name in ("train", "evaluate", "predict", "info", "stability")]])
def test_help_has_examples(words, capsys):
    with pytest.raises(SystemExit) as leaving:
        build_parser().parse_args([*words, "--help"])
    assert leaving.value.code == 0
    assert "examples:\n  minitrain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--model", "mlp", "--depth", "3"], "--depth: the model mlp has a fixed depth"),
        (["train", "digits", "--lr", "-1"], "expected a finite number >= 0"),
        (["train", "digits", "--momentum", "0.9"], "--momentum: adam has none"),
        (["train", "digits", "--weight-decay", "0.1"], "--weight-decay: adam has none"),
        (["train", "digits", "--warmup-epochs", "-1"], "--warmup-epochs: expected at least 0"),
        (["train", "digits", "--activation", "swish"], "activation: expected one of relu"),
        (["train", "digits", "--threads", "100000"], "--threads: expected at most"),
        (["train", "mnist", "--data-folder", "nowhere"], "nowhere"),
    ],
)
def test_user_errors_of_train(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minitrain: error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_user_errors_of_the_others(run, capsys, tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((2, 1, 9, 9)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG rubbish")
    (tmp_path / "net.safetensors").write_bytes(b"rubbish")
    weights = str(run / "weights.safetensors")
    for arguments, message in [
        (["evaluate", str(tmp_path)], "expected a run folder with weights.safetensors"),
        (["evaluate", weights], "--data: expected one of"),
        (["evaluate", str(tmp_path / "net.safetensors")], "not a readable safetensors file"),
        (["predict", weights, str(tmp_path / "none.npy")], "none.npy: no such file"),
        (["predict", weights, str(tmp_path / "wrong.npy")], "expected shape (N, 1, 8, 8) or (N, 8, 8)"),
        (["predict", weights, str(tmp_path / "text.npy")], "expected numbers"),
        (["predict", weights, str(tmp_path / "broken.png")], "broken.png: not a readable PNG"),
    ]:
        assert main(arguments) == 2, arguments
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="weights"):
        main(["evaluate", str(tmp_path), "--debug"])


def test_wrong_usage_exits_with_2_and_without_a_traceback():
    result = command("train", "digits", "--epochs", "0", "--out", "x")
    assert result.returncode == 2
    assert "argument --epochs: expected an integer of at least 1, got '0'" in result.stderr
    assert "Traceback" not in result.stderr


def test_divergence_exits_with_1_and_keeps_the_last_good_weights(tmp_path, capsys, monkeypatch):
    build = models.MODELS["mlp"]

    def spoiled(**options):
        model = build(**options)
        model.params["head.weight"] = np.full(model.params["head.weight"].shape, 1e38)
        return model

    monkeypatch.setitem(models.MODELS, "mlp", spoiled)
    assert main([*TRAIN, "--out", str(tmp_path)]) == 1
    assert "is not finite" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["status"] == "diverged"
    assert not (tmp_path / "weights.safetensors").exists()  # there was no good epoch


def test_ctrl_c_saves_what_was_learned_and_exits_with_130(tmp_path):
    arguments = ["train", "digits", "--model", "mlp", "--epochs", "100000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "minitrain", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        # As in a terminal: what a shell runs in the background begins with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopping after this step" in err
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    assert json.loads((tmp_path / "run" / "config.json").read_text())["status"] == "interrupted"
    Model.load(tmp_path / "run" / "weights.safetensors")
    assert "written to" in out
