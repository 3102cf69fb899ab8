"""A small net and its trainer, for the tests of training."""

from minitrain import Input, Model, Trainer, layers, losses, optimizers, schedules

CLASSES = 3


def small_net(seed=0, dtype="float32", dropout=False):
    """Dense, norm, ReLU, (dropout,) dense: state, randomness, and few kernels."""
    x = Input((6,))
    h = layers.ReLU(name="relu")(layers.BatchNorm(name="bn")(layers.Dense(8, name="dense")(x)))
    if dropout:
        h = layers.Dropout(0.3, name="dropout")(h)
    return Model(x, layers.Dense(CLASSES, name="head")(h), seed=seed, dtype=dtype)


def make_trainer(model=None, optimizer=None, **options):
    optimizer = optimizer or optimizers.Adam(schedules.Cosine(0.01, 40))
    return Trainer(model or small_net(), losses.SoftmaxCrossEntropy(), optimizer, **options)


def everything(trainer):
    model = trainer.model
    return [model.flat_params.tobytes(), model.flat_state.tobytes(), *(s.tobytes() for s in trainer.slots.values())]
