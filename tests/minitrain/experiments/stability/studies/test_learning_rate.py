"""The study of learning rates, on tiny nets."""

from minitrain.experiments.stability.studies import learning_rate
from minitrain.experiments.watch import Watch


def test_divergence_is_recorded(outcome):
    result = outcome[1].experiments["learning_rate"]
    entry = result["without"][1]
    assert entry.value == 1e30
    assert {run.outcome for run in entry.runs} == {"diverged"}
    assert all(run.steps < 6 and run.final_training_loss is None for run in entry.runs)
    assert result.summary["without"].all_diverged == [1e30]


def test_another_seed_gives_other_numbers(outcome, data, tiny):
    other = learning_rate.run(data, tiny.of["learning_rate"], 7, Watch(1))
    assert other["with"] != outcome[1].experiments["learning_rate"]["with"]
