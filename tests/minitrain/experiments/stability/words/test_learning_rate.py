"""Sentences about learning rates follow the numbers."""

from made_results import made_run, swapped

from minitrain.experiments.stability.words import learning_rate


def test_learning_rate_statement_follows_the_numbers(made, read):
    def say(made):
        return learning_rate.about(read(made).experiments["learning_rate"])

    said = say(made)
    assert "up to a rate of 0.1" in said
    assert "10 times as large" in said
    assert "Runs without batch norm diverge at 1 and 10" in said
    assert "learns nothing" not in said
    made["experiments"]["learning_rate"]["with"][3]["runs"] = [made_run(0.1, "chance")]
    assert "With it the net learns nothing at 10." in say(made)
    contrary = say(swapped(made))
    assert "divides it by 10: not what Bjorck" in contrary
    summary = made["experiments"]["learning_rate"]["summary"]
    summary["with"].update(largest_stable=10.0, at_the_end=True, some_diverged=[])
    summary["ratio"] = 100.0
    said = say(made)
    assert "at least 100 times" in said
    assert "No run with batch norm diverges" in said
    summary["without"]["largest_stable"] = summary["ratio"] = None
    said = say(made)
    assert "no rate of the range" in said
    assert "times as large" not in said
