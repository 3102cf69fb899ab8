"""What a job found is read back from its results.json."""

import json

import pytest

from minitrain.experiments.page import render
from minitrain.experiments.results import Results
from minitrain.experiments.run import draw_all
from minitrain.experiments.stability.stability import STABILITY


def test_results_come_back_from_their_file_and_give_the_same_page(outcome, tiny):
    folder, results = outcome
    again = Results.from_json(json.loads((folder / "results.json").read_text()), STABILITY)
    assert again == results
    assert again.settings == tiny
    assert render(STABILITY, again, draw_all(STABILITY, again)) == (folder / "report.html").read_text()


def test_another_format_is_refused(made, read):
    with pytest.raises(ValueError, match="format: expected 1, got 2"):
        read({**made, "format": 2})
