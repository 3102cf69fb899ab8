"""What is shown of the experiments while they run."""

import pytest

from minitrain.experiments.watch import PlainWatch, Watch, make_watch


def test_plain_watch_prints_names_and_time_left(capsys):
    watch = PlainWatch(100)
    watch.experiment("depth")
    watch.run(5)
    watch.step(10)
    watch.experiment("learning rate")
    printed = capsys.readouterr().out
    assert "0%  depth" in printed
    assert "50%  learning rate, about" in printed


def test_live_watch_draws_a_bar_and_takes_it_away(capsys, monkeypatch):
    pytest.importorskip("rich")
    assert type(make_watch(100, show=False)) is Watch
    assert isinstance(make_watch(100, show=True), PlainWatch)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("minitrain.experiments.watch.LIVE_SECONDS", 0.0)
    with make_watch(100, show=True) as watch:
        assert not isinstance(watch, PlainWatch)
        watch.experiment("depth")
        watch.run(5)
        watch.step(10)
    assert watch.done == 50
    capsys.readouterr()
