"""Which learning rates count as stable."""

from made_results import made_run

from minitrain.experiments.stability.records.learning_rate import summarize
from minitrain.experiments.stability.records.sweep import Entries


def test_largest_stable_rate_needs_every_seed():
    def runs(*outcomes):
        return [made_run(0.9, outcome) for outcome in outcomes]

    summary = summarize(
        Entries.from_json(
            {
                "without": [
                    {"value": 0.1, "runs": runs("trained", "trained")},
                    {"value": 1.0, "runs": runs("trained", "diverged")},
                ],
                "with": [
                    {"value": 0.1, "runs": runs("chance", "trained")},
                    {"value": 1.0, "runs": runs("trained", "trained")},
                ],
            }
        )
    )
    assert summary["without"].largest_stable == 0.1
    assert summary["without"].some_diverged == [1.0]
    assert summary["with"].at_the_end
    assert summary.ratio == 10.0
