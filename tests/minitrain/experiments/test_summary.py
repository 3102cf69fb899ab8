"""The summary holds the numbers of the finished experiments."""

from importlib.util import find_spec

from minitrain.experiments.stability.stability import STABILITY
from minitrain.experiments.summary import print_summary, summary_rows


def test_summary_table_holds_the_same_numbers(made, read, capsys, monkeypatch):
    results = read(made)
    rows = {row[0]: row[1:] for row in summary_rows(STABILITY, results)}
    assert rows["40 layers, dense, ReLU: test accuracy"] == (
        "10.5 % (10 % to 11 %)",
        "93.5 % (93 % to 94 %)",
    )
    assert rows["largest stable learning rate"] == ("0.1", "1 (10 times as large)")
    print_summary(STABILITY, results)
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_summary(STABILITY, results)
    assert "What batch normalization does" in capsys.readouterr().out or find_spec("rich") is None
    results.experiments = {}
    assert summary_rows(STABILITY, results) == []
