"""History: gaps, tables, curves."""

import numpy as np
import pytest

from minitrain.training.history import History


def test_history_fills_gaps_with_nan(tmp_path):
    history = History()
    history.append(1, {"loss": 2.0})
    history.append(2, {"loss": 1.0, "val_loss": 1.5})
    history.append(3, {"val_loss": 1.0})
    assert len(history) == 3
    np.testing.assert_equal(history.metrics, {"loss": [2.0, 1.0, np.nan], "val_loss": [np.nan, 1.5, 1.0]})
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,val_loss\n1,2.0,nan\n2,1.0,1.5\n3,nan,1.0\n"


def test_history_plot(tmp_path):
    pytest.importorskip("matplotlib")
    history = History()
    for epoch in (1, 2):
        history.append(epoch, {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "learning_rate": 0.1, "seconds": 1.0})
    figure = history.plot(tmp_path / "curves.png")
    loss, accuracy = figure.axes
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch", "epoch"]
    assert loss.get_ylabel().startswith("loss")
    assert accuracy.get_ylabel() == "accuracy"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
