"""An optimizer bound to a model, against a Trainer."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers

LOSS = losses.SoftmaxCrossEntropy()


def net(seed=0):
    x = Input((4,))
    return Model(x, layers.Dense(3, name="head")(layers.ReLU()(layers.BatchNorm()(layers.Dense(8)(x)))), seed=seed)


def batch(step):
    rng = np.random.default_rng(step)
    return rng.standard_normal((6, 4)), rng.integers(0, 3, 6)


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(0.1, momentum=0.9, l2=1e-3, clip_norm=1.0),
        optimizers.Adam(0.01, l1={"*.gamma": 1e-3}, rate={"head.*": 10}),
        optimizers.AdamW(0.01),
        optimizers.RMSprop(0.01, centered=True),
    ],
)
def test_two_models_take_the_steps_of_their_trainers(optimizer):
    models, others = [net(0), net(1)], [net(0), net(1)]
    trainers = [Trainer(each, LOSS, optimizer) for each in others]
    runs, updates = [each.bind(6) for each in models], [optimizer.bind(each) for each in models]
    for step in range(4):
        for run, update, trainer in zip(runs, updates, trainers, strict=True):
            x, y = batch(step)
            value = LOSS(run.forward(x), y, run.output_gradient)
            run.backward()
            update.update()
            assert value == trainer.step(x, y)
            assert update.steps == trainer.steps
    for model, other in zip(models, others, strict=True):
        np.testing.assert_array_equal(model.flat_params, other.flat_params)
        np.testing.assert_array_equal(model.flat_state, other.flat_state)


def test_a_gradient_that_is_not_finite():
    model = net()
    update, before = optimizers.SGD(0.1).bind(model), model.flat_params.copy()
    model.gradients["head.weight"][0, 0] = np.nan
    with pytest.raises(ArithmeticError, match=r"step 0: the gradient of head\.weight is not finite; nothing was upda"):
        update.update()
    np.testing.assert_array_equal(model.flat_params, before)
    assert update.steps == 0


def test_globs_are_checked():
    with pytest.raises(ValueError, match="tail"):
        optimizers.SGD(0.1, rate={"tail.*": 2}).bind(net())
