"""Output that fails does not end the work."""

import sys
import warnings

import pytest
from small_fits import make_trainer, small_data

from minitrain.terminal.output import Output


class Broken:
    """A stream that fails."""

    encoding = "utf-8"

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return False


ERRORS = [
    BrokenPipeError(32, "Broken pipe"),
    OSError(28, "No space left on device"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("ascii", "x", 0, 1, "no such sign"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_training_goes_on_and_says_it_once(error, monkeypatch):
    trainer = make_trainer()
    with warnings.catch_warnings(record=True) as caught, monkeypatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(sys, "stdout", Broken(error))
        history = trainer.fit(*small_data(), epochs=3, verbose=True)
    assert history.epochs == [1, 2, 3]
    assert [str(each.message).startswith("the progress of training can no longer") for each in caught] == [True]


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        Output("this").attempt(lambda: 1 / 0)
