"""The comparison with scikit-learn's MLPs runs and shows what it measured."""

import re
import sys

import pytest

pytest.importorskip("sklearn")

from benchmarks import sklearn_mlp


def test_a_data_set_of_each_kind(monkeypatch, capsys):
    measure = sklearn_mlp.measure
    monkeypatch.setattr(sklearn_mlp, "measure", lambda name, makers, seeds: measure(name, makers, seeds, folds=2))
    results = sklearn_mlp.run(["iris", "linnerud"], 1, {"epochs": 5})["sklearn-mlp"]
    assert list(results["iris"]) == ["minitrain", "MLPClassifier", "scaled"]
    assert list(results["linnerud"]) == ["minitrain", "MLPRegressor", "scaled"]
    assert all(each["fit"] > 0 and each["predict"] > 0 for row in results.values() for each in row.values())
    assert results["iris"]["minitrain"]["score"] > 0.6
    text = capsys.readouterr().out
    assert re.search(r"\| iris +\| 0\.\d{3} ", text)
    assert "geometric mean" in text


def test_ours_alone_with_other_parameters(monkeypatch, capsys, tmp_path):
    line = f"sklearn_mlp iris --seeds 1 --json {tmp_path / 'r.json'} --ours epochs=2 hidden=8 optimizer=sgd"
    monkeypatch.setattr(sys, "argv", line.split())
    sklearn_mlp.main()
    assert "MLPClassifier" not in capsys.readouterr().out
    assert '"minitrain"' in (tmp_path / "r.json").read_text()
    monkeypatch.setattr(sys, "argv", ["sklearn_mlp", "iri"])
    with pytest.raises(SystemExit):
        sklearn_mlp.main()
    assert "expected some of iris, " in capsys.readouterr().err
