"""A trainer and data for it that are done in a moment."""

import numpy as np

from minitrain import Trainer, losses, models, optimizers, schedules


def small_data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 6)).astype("float32")
    return x, x[:, :3].argmax(axis=1)


def make_trainer(seed=0, optimizer=None):
    model = models.mlp((6,), 3, hidden=(8,), seed=seed)
    return Trainer(model, losses.SoftmaxCrossEntropy(), optimizer or optimizers.Adam(schedules.Cosine(0.01, 40)))


def everything(trainer):
    model = trainer.model
    return [model.flat_params.tobytes(), model.flat_state.tobytes(), *(s.tobytes() for s in trainer.slots.values())]


def scripted(trainer, values):
    """Make validation return these losses one after the other."""
    script = iter(values)
    trainer.evaluate_samples = lambda samples, batch_size: {"loss": next(script), "accuracy": 0.5}
