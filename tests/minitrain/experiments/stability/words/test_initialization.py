"""Sentences about the first weights' scale follow the numbers."""

from made_results import swapped

from minitrain.experiments.stability.words import initialization


def test_initialization_statement_follows_the_numbers(made, read):
    said = initialization.about(read(made).experiments["initialization"])
    assert "Without batch norm the net is trained from 1 of the 3 scales (1)" in said
    assert "depends less on the scale" in said
    assert "depends more on the scale" in initialization.about(read(swapped(made)).experiments["initialization"])
