"""Sentences about the figure after Ioffe & Szegedy follow the numbers."""

from made_results import swapped

from minitrain.experiments.stability.words import ioffe_szegedy


def test_sigmoid_statement_follows_the_numbers(made, read):
    def say(made):
        return ioffe_szegedy.about(read(made).experiments["ioffe_szegedy"])

    said = say(made)
    assert "after 5 steps with and after 10 steps without" in said
    assert "more stable, as in the paper" in said
    contrary = say(swapped(made))
    assert "after 10 steps with and after 5 steps without" in contrary
    assert "unlike in the paper" in contrary
    for run in made["experiments"]["ioffe_szegedy"]["without"]["runs"]:
        run["accuracy"] = [0.1, 0.2, 0.3]
    assert "never without" in say(made)
