"""Figures are drawn whatever the runs came to."""

import pytest
from made_results import made_run

from minitrain.experiments.run import draw_all
from minitrain.experiments.stability.stability import STABILITY

pytest.importorskip("matplotlib")


def test_figures_are_drawn_from_any_results(made, read):
    """Diverged runs, gradients that vanish or are infinite, and no stable rate are drawn, not raised."""
    net = made["experiments"]["depth"]["nets"][2]
    for run in net["runs"]:
        run.update(made_run(0.0, "diverged"))
        run["gradients"] = {"weights": ["w"] * 40, "steps": [0], "norms": [[None, 0.0, *[1.0] * 38]]}
    made["experiments"]["learning_rate"]["summary"]["without"]["largest_stable"] = None
    figures = draw_all(STABILITY, read(made))
    assert list(figures) == [figure.name for experiment in STABILITY.experiments for figure in experiment.figures]
    assert all(content.startswith(b"\x89PNG\r\n") for content in figures.values())
    assert draw_all(STABILITY, read({**made, "experiments": {}})) == {}
