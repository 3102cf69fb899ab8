"""`minitrain warmup`: what it offers to processes that compile, and what it calls itself."""

import contextlib

import numpy as np
import pytest

from minitrain import models
from minitrain.cli import info, main


@pytest.fixture
def offers(monkeypatch):
    """What was offered; of all nets there is the smallest, and batch norm is left out."""
    found = []

    def offered(calls, *args, processes):
        found.append((calls(*args), processes))
        return contextlib.nullcontext()

    monkeypatch.setattr(info, "offered", offered)
    monkeypatch.setattr(models, "MODELS", {"mlp": models.mlp})
    monkeypatch.setattr("nbnorm.warmup", lambda dtypes: None)
    return found


@pytest.mark.parametrize(("arguments", "expected"), [([], None), (["--jobs", "1"], 0), (["--jobs", "4"], 3)])
def test_jobs(arguments, expected, offers, capsys):
    assert main(["warmup", *arguments]) == 0
    ((calls, processes),) = offers
    assert processes == expected
    assert capsys.readouterr().err.startswith("minitrain: mlp ready in ")
    for call in calls:
        with np.errstate(all="ignore"), contextlib.suppress(ValueError):  # of arrays with nothing in them
            call()


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_what_is_no_number_of_jobs(jobs, capsys):
    with pytest.raises(SystemExit):
        main(["warmup", "--jobs", jobs])
    assert "--jobs: expected an integer of at least 1" in capsys.readouterr().err
