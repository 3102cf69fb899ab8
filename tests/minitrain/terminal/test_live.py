"""The bar that both kinds of training draw, and whether there is a terminal to draw it on."""

import pytest

from minitrain.terminal import live


def test_nothing_is_live_off_a_terminal_or_without_rich(monkeypatch):
    assert not live.is_live()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not live.is_live()
    monkeypatch.setattr("sys.stdout", None)
    assert not live.is_live()


def test_bar_is_drawn_when_due_and_leaves_its_line(capsys):
    pytest.importorskip("rich")
    from rich.progress import TextColumn

    with live.Bar(TextColumn("{task.description}"), seconds=1000.0) as bar:
        bar.begin("first", 10)
        assert bar.due()
        assert not bar.due()
        bar.draw(description="second", completed=5)
        bar.end("all done in 1 step")
    assert capsys.readouterr().out.strip().splitlines()[-1] == "all done in 1 step"
