"""The examples run as they are."""

import runpy

import pytest
from paths import ROOT

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

ARGUMENTS = {"gan": ("300",)}  # what makes one shorter: as it is, this one takes half a minute
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), *ARGUMENTS.get(path.stem, ())])
    runpy.run_path(str(path), run_name="__main__")
    text = capsys.readouterr().out
    assert text
    if path.stem == "resume_training":
        assert "same bits: True" in text
