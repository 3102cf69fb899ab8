"""The study of depth, on tiny nets."""

from minitrain.experiments import training


def test_depth_results_hold_every_net_and_layer(outcome):
    nets = outcome[1].experiments["depth"].nets
    assert len(nets) == 2 * 2 * 2 * 2
    for net in nets:
        assert len(net.runs) == 2
        assert len(net.other_rates) == 1
        first, second = (run.gradients for run in net.runs)
        assert len(first.weights) == net.depth
        assert first.steps[0] == 0
        assert first.steps[-1] == 6
        assert second.steps == [0]
        assert all(len(row) == net.depth for row in first.norms)
        assert all(run.outcome in training.OUTCOMES for run in net.runs)
        assert net.runs[0].final_training_loss <= net.other_rates[0].final_training_loss
