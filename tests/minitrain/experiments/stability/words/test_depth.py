"""Sentences about depth and gradients follow the numbers."""

import pytest
from made_results import made_run, swapped

from minitrain.experiments.stability.words import depth


@pytest.fixture
def say(read):
    """What a sentence says of made results."""
    return lambda sentence, made: sentence(read(made).experiments["depth"])


def test_depth_statement_follows_the_numbers(made, say):
    said = say(depth.about_depth, made)
    assert "decides in all kinds of net" in said
    assert "93.5 % with, 10.5 % without" in said
    assert "At 5 layers it gains less than 2 points" in said
    for net in made["experiments"]["depth"]["nets"]:
        if (net["kind"], net["activation"], net["depth"], net["batch_norm"]) == ("dense", "relu", 40, True):
            net["runs"][1] = {**net["runs"][1], **made_run(0.3, "partly", 1)}
    said = say(depth.about_depth, made)
    assert "decides in 3 of 4 kinds of net" in said
    assert "helps, but does not decide, in dense, ReLU (61.5 % with" in said
    contrary = say(depth.about_depth, swapped(made))
    assert "no kind of net that only batch norm" in contrary
    assert "conv, ReLU (10.5 % with, 93.5 % without)" in contrary.split("does harm in")[1]


def test_gradient_statement_follows_the_numbers(made, say):
    said = say(depth.about_gradients_at_start, made)
    assert "1e-38 without, 1 with" in said
    assert "explodes" not in said
    for net in made["experiments"]["depth"]["nets"]:
        if net["batch_norm"] and net["depth"] == 40 and net["kind"] == "dense":
            for run in net["runs"]:
                run["gradients"]["norms"][0][0] = 1300.0
    said = say(depth.about_gradients_at_start, made)
    assert "explodes at initialization in dense, ReLU; dense, sigmoid, as Yang" in said


def test_vanished_and_infinite_gradients_have_words(made, say):
    net = made["experiments"]["depth"]["nets"][2]
    for run in net["runs"]:
        run["gradients"]["norms"] = [[0.0, *run["gradients"]["norms"][0][1:]]] * 2
    assert "0 (it vanishes altogether) without" in say(depth.about_gradients_at_start, made)
    assert "infinite factor (some are zero)" in say(depth.about_gradients_in_training, made)
    net["runs"][0]["gradients"]["norms"] = [[None, 1.0, 1.0]]
    assert "infinity without" in say(depth.about_gradients_at_start, made)
    assert "not finite" in say(depth.about_gradients_in_training, made)
