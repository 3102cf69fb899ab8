"""Attributes that would have no effect are refused, and what to write instead is said."""

import dataclasses

import numpy as np
import pytest
from small_trainer import make_trainer, small_net

from minitrain import Input, Model, Trainer, initializers, layers, losses, optimizers, schedules
from minitrain.layer import Layer
from minitrain.losses import Loss
from minitrain.optimizers import Optimizer
from minitrain.schedules import Schedule
from minitrain.sealed import Sealed
from minitrain.training.history import History


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dtype", r"dtype of a Model cannot be assigned: make a model of that dtype: Model\(\.\.\., dtype="),
        ("seed", r"seed of a Model cannot be assigned: .*Model\(\.\.\., seed=1\)"),
        ("fuse", r"Model\(\.\.\., fuse=False\)"),
        ("graph", r"Model\.from_graph\(graph\)"),
        ("output_shape", "make a model of others"),
        ("input_shapes", r"Model\(Input\(shape\), \.\.\.\)"),
        ("settings", r"Model\(\.\.\., seed=1, dtype=\.\.\., fuse=\.\.\.\)"),
        ("trainable", r"a Model has no attribute 'trainable': write model\.freeze"),
        ("training", "there is no mode"),
        ("flat_param", "a Model has no attribute 'flat_param': did you mean 'flat_params'"),
        ("parms", "did you mean 'params'"),
        ("xyz", "what can be assigned is flat_gradients, flat_params, flat_state, gradients, params, state"),
        ("predict", r"predict of a Model cannot be assigned: call predict\(\)"),
        ("optimizer", r"Trainer\(model, loss, optimizer\)"),
    ],
)
def test_a_model(name, message):
    model = small_net()
    before = dict(vars(model))
    with pytest.raises(AttributeError, match=message):
        setattr(model, name, True)
    assert vars(model) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model", r"model of a Trainer cannot be assigned: make another trainer: Trainer\(model, loss"),
        ("loss", r"make another trainer: Trainer\(model, loss"),
        ("metrics", r"make another trainer: Trainer\(model, loss"),
        ("slots", r"write into its arrays: trainer\.slots\[name\]\[\.\.\.\] = array"),
        ("lr", r"a Trainer has no attribute 'lr': write trainer\.optimizer = Adam\(rate\)"),
        ("stop", r"call trainer\.stop\(\)"),
        ("stop_training", r"call trainer\.stop\(\)"),
        ("step_count", "a Trainer has no attribute 'step_count'"),
        ("epochs", r"give it to trainer\.fit"),
    ],
)
def test_a_trainer(name, message):
    trainer = make_trainer()
    with pytest.raises(AttributeError, match=message):
        setattr(trainer, name, 0.1)
    trainer.steps, trainer.epoch = 3, 1
    assert (trainer.steps, trainer.epoch) == (3, 1)


@pytest.mark.parametrize("name", ["shape", "dtype", "layer", "inputs", "name", "spec", "trainable", "call"])
def test_nodes_and_inputs(name):
    x = Input((3,))
    for node in (x, layers.Dense(2)(x)):
        before = dict(vars(node))
        with pytest.raises(AttributeError, match=name):
            setattr(node, name, (4,))
        assert vars(node) == before
    with pytest.raises(AttributeError, match=r"shape of an Input cannot be assigned: make another Input\(shape\)"):
        x.shape = (4,)


def test_plans_and_histories():
    plan = small_net().training_plan(4)
    with pytest.raises(AttributeError, match=r"write into the array: plan\.output_gradient\[\.\.\.\] = dy"):
        plan.output_gradient = np.ones((4, 3), "f4")
    with pytest.raises(AttributeError, match=r"write plan\.load\(x\)"):
        plan.inputs = (np.ones((4, 6), "f4"),)
    with pytest.raises(AttributeError, match="batch"):
        plan.batch = 8
    history = History()
    history.interrupted = True
    with pytest.raises(AttributeError, match="a History has no attribute 'epoch': did you mean 'epochs'"):
        history.epoch = 3


def kinds(base):
    found = [base]
    for each in found:
        found += [sub for sub in each.__subclasses__() if sub.__module__.startswith("minitrain.")]
    return found


@pytest.mark.parametrize("base", [Layer, Loss, Optimizer, Schedule, initializers.Initializer])
def test_hyperparameters_are_fixed(base):
    for kind in kinds(base):
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen, kind


@pytest.mark.parametrize(
    "thing", [layers.Dense(3), losses.MeanSquaredError(), optimizers.Adam(), schedules.Cosine(0.1, 10)]
)
@pytest.mark.parametrize("name", ["weights", "learning_rate", "trainable"])
def test_hyperparameters_have_no_other_attributes(thing, name):
    with pytest.raises(AttributeError, match=name):
        setattr(thing, name, 1)


def test_a_subclass_has_attributes_of_its_own():
    class Noted(Trainer):
        count: int

        def __init__(self, *arguments):
            self.before = 1
            super().__init__(*arguments)
            self.count = 0
            self.count += 1

        def note(self):
            self.note = None

    trainer = Noted(small_net(), losses.SoftmaxCrossEntropy(), optimizers.SGD())
    trainer.note()
    trainer.remark = "mine"
    assert (trainer.before, trainer.count, trainer.note, trainer.remark) == (1, 1, None, "mine")
    del trainer.remark
    with pytest.raises(AttributeError, match="model of a Noted cannot be assigned"):
        trainer.model = small_net()
    with pytest.raises(AttributeError, match="a Noted needs its model: it cannot be deleted"):
        del trainer.model

    class Marked(Model):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.mark = [1]

    x = Input((3,))
    model = Marked(x, layers.Dense(2)(x))
    model.mark = [2]
    with pytest.raises(AttributeError, match="dtype of a Marked cannot be assigned"):
        model.dtype = "float64"


def test_an_optimizer_of_the_same_class_goes_on():
    x, y = np.random.default_rng(0).standard_normal((8, 6)).astype("f4"), np.arange(8) % 3
    trainer, whole = make_trainer(optimizer=optimizers.Adam(0.01)), make_trainer(optimizer=optimizers.Adam(0.01))
    for each in (trainer, whole):
        each.step(x, y)
    slots = dict(trainer.slots)
    trainer.optimizer = optimizers.Adam(0.01, l2=0.0)
    assert all(trainer.slots[name] is slots[name] for name in slots)
    for each in (trainer, whole):
        each.step(x, y)
    np.testing.assert_array_equal(trainer.model.flat_params, whole.model.flat_params)
    with pytest.raises(ValueError, match="optimizer: expected another Adam with mean, square, got SGD"):
        trainer.optimizer = optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="expected another SGD with no vectors, got SGD"):
        make_trainer(optimizer=optimizers.SGD(0.1)).optimizer = optimizers.SGD(0.1, momentum=0.9)
    with pytest.raises(TypeError, match="expected an Optimizer"):
        trainer.optimizer = 0.1


def test_replacing_a_method():
    model = small_net()
    model.predict = lambda x: "other"
    assert model.predict(None) == "other"


def test_what_a_base_fixes_and_what_it_lets_be():
    class Base(Sealed, sealed=True):
        size: int

        def __init__(self):
            self.size = 3

    class Own(Base, sealed=True):
        depth: int

    own = Own()
    own.depth = 2
    for name in ("size", "depth"):
        with pytest.raises(AttributeError, match=f"{name} of an Own cannot be assigned"):
            setattr(own, name, 5)
    with pytest.raises(AttributeError, match="nothing of it can be assigned"):
        own.colour = 1
