"""What notebooks show of histories, models and searches, in themselves and in a notebook that runs."""

import sys

import pytest
from paths import ROOT
from small_fits import make_trainer, small_data

from minitrain import Input, Model, layers
from minitrain.terminal.notebook import table_html
from minitrain.training.history import History

DATA = small_data()


@pytest.fixture(scope="module")
def trainer():
    trainer = make_trainer()
    trainer.fit(*DATA, epochs=12, validation_data=DATA, verbose=False)
    return trainer


def test_history_shows_its_curves(trainer):
    pytest.importorskip("matplotlib")
    shown = trainer.history._repr_html_()
    assert shown.count("<svg") == 1
    assert "12 epochs" in shown
    assert "<?xml" not in shown


def test_history_is_a_table_without_matplotlib(trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = trainer.history._repr_html_()
    assert "<svg" not in shown
    assert shown.count("<tr>") == 1 + 5 + 1 + 5
    assert "val_accuracy" in shown


@pytest.mark.parametrize(
    ("history", "text"),
    [
        (History(), "History(no epochs)"),
        (History([1], {"loss": [0.25], "seconds": [1.0]}), "History(1 epoch; last: loss 0.25)"),
        (History([1, 2], {"loss": [1.0, 0.5]}, True), "History(2 epochs, interrupted; last: loss 0.5)"),
    ],
)
def test_history_in_words(history, text):
    assert repr(history) == text
    assert text in history._repr_html_()


def test_model_shows_its_summary(trainer):
    lines = []
    trainer.model.summary(lines.append)
    shown = trainer.model._repr_html_()
    for node in trainer.model.graph.nodes:
        assert f">{node.name}</td>" in shown
    assert lines[0].splitlines()[-1] in shown
    x = Input((3, None, None))
    free = Model(x, layers.GlobalAvgPool()(layers.Conv2d(4, 3)(x)))
    assert "Model" in free._repr_html_() or "<table>" in free._repr_html_()


def test_trainer_in_words(trainer):
    assert repr(trainer).startswith("<Trainer of <Model ")
    assert repr(trainer).endswith("24 steps, 12 epochs>")


def test_cells_are_escaped():
    assert "&lt;b&gt;" in table_html([("a", "b"), ("<b>", "1")], align="<>")


NOTEBOOK = """
import sys
sys.path[:0] = {paths}
from small_fits import make_trainer, small_data
trainer = make_trainer()
history = trainer.fit(*small_data(), epochs=2, verbose=False)
"""


def test_a_notebook_shows_them_without_magic(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    v4 = nbformat.v4
    cells = [NOTEBOOK.format(paths=[str(ROOT), str(ROOT / "tests")]), "history", "trainer.model",
             "trainer.find_learning_rate(*small_data(), steps=20)"]  # fmt: skip
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in notebook.cells]
    assert shown[0] == []
    html = [outputs[0]["data"]["text/html"] for outputs in shown[1:]]
    assert ["<svg" in each for each in html] == [True, False, True]
    assert "<table>" in html[1]
    assert [len(outputs) for outputs in shown[1:]] == [1, 1, 1]
