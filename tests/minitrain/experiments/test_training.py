"""Runs of the experiments: outcomes in a word, batches, the choice of a rate."""

import math

import numpy as np
import pytest

from minitrain.experiments import training


@pytest.mark.parametrize(
    ("loss", "accuracy", "expected"),
    [
        (None, 0.99, "diverged"),
        (1e4, 0.1, "diverged"),
        (math.log(10), 0.1, "chance"),
        (1.5, 0.3, "partly"),
        (0.1, 0.5, "trained"),
    ],
)
def test_outcomes(loss, accuracy, expected):
    assert training.classify(loss, accuracy, math.log(10)) == expected


def test_batches_are_whole_and_repeat(data):
    first = list(training.batches(data, 8, 7, seed=1))
    again = list(training.batches(data, 8, 7, seed=1))
    assert len(first) == 7
    assert all(len(x) == 8 for x, _ in first)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    epoch = np.concatenate([y for _, y in first[:3]])
    assert len(epoch) == 24
    assert (np.bincount(epoch, minlength=10) <= 3).all()
    assert len(list(training.batches(data, 1000, 2, seed=1))) == 2


def test_the_rate_with_the_lowest_training_loss_is_taken():
    def once(rate, seed):
        loss = {0.1: 0.5, 1.0: 0.2, 10.0: None}[rate]
        return training.TrainedTrial(seed, rate, "trained", 10, loss, loss, 0.9, [])

    tuned = training.tune(once, (0.1, 1.0, 10.0), seed=5, seeds=3)
    assert tuned.learning_rate == 1.0
    assert [(run.seed, run.learning_rate) for run in tuned.runs] == [(5, 1.0), (6, 1.0), (7, 1.0)]
    assert [run.learning_rate for run in tuned.other_rates] == [0.1, 10.0]
    assert training.tune(once, (10.0,), seed=5, seeds=1).learning_rate == 10.0
