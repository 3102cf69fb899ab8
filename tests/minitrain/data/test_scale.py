"""Inputs on another scale than those that were trained on are seen, others are not."""

import json
import warnings

import numpy as np
import pytest

from minitrain import Trainer, losses, models, optimizers
from minitrain.cli import main
from minitrain.data.scale import measured, scales_from

rng = np.random.default_rng(0)
SHARES = rng.random((40, 1, 6, 6)).astype("float32")
STANDARD = rng.standard_normal((40, 1, 6, 6)).astype("float32")
Y = rng.integers(0, 3, 40)


@pytest.mark.parametrize(
    ("trained", "given", "words"),
    [
        (SHARES, SHARES * 255, "divide them by 255"),
        (SHARES, (SHARES * 255).astype("uint8"), "divide them by 255"),
        (SHARES * 255, SHARES, "multiply them by 255"),
        ((SHARES * 255).astype("uint8"), SHARES, "multiply them by 255"),
        (STANDARD, SHARES, "standardize them"),
        (SHARES, STANDARD, "values from -"),
        (STANDARD, SHARES * 255, "bring them to that scale"),
        (SHARES, SHARES * 65535, "bring them to that scale"),
    ],
)
def test_other_scales(trained, given, words):
    (scale,) = measured([trained])
    assert words in scale.difference(given)
    assert scale.difference(trained) is None


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        (SHARES, SHARES[:1] * 0.1), (SHARES, SHARES * 0), (SHARES, 1 - SHARES), (SHARES, np.ones((1, 1, 6, 6))),
        (STANDARD, STANDARD[:1] * 3), (STANDARD, np.full((1, 3), 0.5)), (SHARES, SHARES * np.nan),
        (SHARES * 0, SHARES), ((SHARES * 255).astype("uint8"), SHARES * 250), (SHARES > 0.5, SHARES > 0.9),
    ],
)  # fmt: skip
def test_the_same_scale(trained, given):
    assert measured([trained])[0].difference(np.asarray(given)) is None


def test_scales_survive_json():
    scales = measured([SHARES, STANDARD[:, 0, 0]])
    assert scales_from(json.loads(json.dumps([each.config() for each in scales]))) == scales
    for other in (None, [{}], [3], "x", [{"shape": 3}]):
        assert scales_from(other) == []


def trained(x, **options):
    model = models.mlp((1, 6, 6), 3, hidden=(8,), norm=None, seed=0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(1e-4))
    trainer.fit(x, verbose=False, **options)
    return trainer


@pytest.mark.parametrize("batches", [False, True])
def test_a_trainer_warns(batches):
    trainer = trained([(SHARES, Y)]) if batches else trained(SHARES, y=Y, validation_split=0.2)
    for call in (trainer.predict_proba, trainer.predict_classes, lambda x: trainer.evaluate(x, Y)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(SHARES)
        with pytest.warns(UserWarning, match=r"x: values from 0.* to 25.*; divide them by 255") as seen:
            call(SHARES * 255)
        assert len(seen) == 1
    assert trainer.scales[0].shape == (1, 6, 6)


def test_the_command_line_warns(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "digits", "--epochs", "1", "--model", "mlp", "--out", str(run)]) == 0
    inputs = json.loads((run / "config.json").read_text())["inputs"]
    assert inputs[0]["shape"] == [1, 8, 8]
    assert 0.9 < inputs[0]["high"] <= 1.0
    x = rng.random((3, 1, 8, 8))
    np.save(tmp_path / "good.npy", x)
    np.save(tmp_path / "bad.npy", x * 255)
    np.save(tmp_path / "bytes.npy", (x * 255).astype("uint8"))
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "good.npy"), str(tmp_path / "bytes.npy")]) == 0
    assert capsys.readouterr().err == ""
    assert main(["predict", str(run), str(tmp_path / "bad.npy")]) == 0
    captured = capsys.readouterr()
    assert "warning" in captured.err
    assert "divide them by 255" in captured.err
    assert len(captured.out.splitlines()) == 4
