"""accumulate=k: the gradients of k batches make one update."""

import numpy as np
import pytest

from minitrain import Trainer, callbacks, losses, models, optimizers
from minitrain.training.trainer import NonFiniteLossError

rng = np.random.default_rng(0)
X = rng.standard_normal((50, 4)).astype("float32")
Y = rng.integers(0, 3, 50)


def trainer_of(norm=None, frozen=False):
    model = models.mlp((4,), 3, hidden=(8,), norm=norm, seed=0, dtype="float32" if norm else "float64")
    if frozen:
        model.freeze(model.graph.nodes[0].name)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9, clip_norm=0.5))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 2), (4, 4), (16, 1), (3, 5), (1, 7), (50, 3)])
@pytest.mark.parametrize("weights", [None, rng.uniform(0, 2, 50)], ids=["plain", "weighted"])
def test_small_batches_together_are_a_large_one(batch_size, accumulate, weights, frozen):
    together, large = trainer_of(frozen=frozen), trainer_of(frozen=frozen)
    kept = {"epochs": 2, "sample_weight": weights, "verbose": False}
    together.fit(X, Y, batch_size=batch_size, accumulate=accumulate, **kept)
    large.fit(X, Y, batch_size=batch_size * accumulate, **kept)
    np.testing.assert_allclose(together.model.flat_params, large.model.flat_params, rtol=1e-9, atol=1e-12)
    assert together.steps == large.steps
    for name in ("loss", "accuracy"):
        assert together.history.metrics[name] == pytest.approx(large.history.metrics[name], rel=1e-9)


def test_callbacks_see_one_batch_an_update():
    seen = []
    watch = callbacks.LambdaCallback(on_batch_end=lambda trainer, batch, loss: seen.append((batch, trainer.steps)))
    trainer_of("before").fit(X, Y, batch_size=8, accumulate=3, callbacks=[watch], verbose=False)
    assert seen == [(0, 1), (1, 2), (2, 3)]


def test_half_an_update_leaves_no_trace():
    trainer = trainer_of("before")
    x = X.copy()
    x[20] = np.nan
    before = trainer.model.flat_params.tobytes(), trainer.model.flat_state.tobytes()
    with pytest.raises(NonFiniteLossError):
        trainer.fit(x, Y, batch_size=8, accumulate=7, shuffle=False, verbose=False)
    assert (trainer.model.flat_params.tobytes(), trainer.model.flat_state.tobytes()) == before
    assert trainer.steps == 0


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True, "2"])
def test_a_count_is_an_integer(accumulate):
    with pytest.raises((ValueError, TypeError), match="accumulate"):
        trainer_of().fit(X, Y, accumulate=accumulate, verbose=False)
