"""The net, the optimizer and the length of a training, from the parameters of an estimator."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from minitrain.graph import Input
from minitrain.model import Model
from minitrain.models import MODELS
from minitrain.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from minitrain.schedules import OneCycle, Schedule
from nbnorm.jit import serially
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, expect_one_of, mismatch

__all__ = ["BATCH", "input_shape_of", "make_net", "make_optimizer", "number_of_epochs", "on_few_threads", "outputs_of"]

# Found with `benchmarks.sklearn_mlp --ours NAME=VALUE` on 2 cores of an EPYC without AVX-512, 2026-11: score in five
# folds of scikit-learn's bundled data sets, 4 to 10 seeds, then time.
BATCH = 32  # samples; 16 takes twice as long on digits for the same score, 64 is level there
EPOCHS = 30  # 20 lose 0.1 % on digits; 60 gain 0.2 % there and 0.004 of R2 on diabetes, in twice the time
STEPS = 200  # at least, for small sets: with 120 iris loses 0.7 %, and wine gains 0.1 %; 300 and 600 gain nothing
# With early stopping, which ends it: at most so many epochs, but at least so many steps.
LONGEST_EPOCHS, LONGEST_STEPS = 200, 2000
# Of the learning rate, where its schedule would need to know the number of steps ahead: the peak of one cycle is too
# high to stay at. With early stopping 0.3 ends sooner, gains 0.7 % on iris and loses 0.3 % on digits and 0.005 of R2 on
# diabetes; 0.03 ends later, loses 1.3 % on iris and gains nothing but 0.4 % on wine.
CONSTANT_SHARE = 0.1
# Operations of a step's forward pass, up to which it runs on one thread. On 2 idle cores of the same machine two
# threads make a training step of a dense net 1.1 times as fast at 0.5 million, 1.6 times at 10 and 23 million, 2 times
# at 65 million. With a busy program beside it, as other jobs of a search are, they wait for each other: 20 times as
# slow at 23 million, 6 times at 65 million. So small nets leave that gain alone, and large ones take it.
SERIAL_FLOPS = 20_000_000

INFERENCE_BATCHES = (32, 64, 128, 256)

OPTIMIZERS = ("adamw", "adam", "rmsprop", "sgd")


def input_shape_of(input_shape: Any, features: int) -> tuple[int, ...]:
    """Return the shape of one sample as the net takes it."""
    if input_shape is None:
        return (features,)
    given = [input_shape] if np.ndim(input_shape) == 0 else list(input_shape)
    shape = tuple(expect_integer("input_shape", size) for size in given)
    if math.prod(shape) != features:
        expected = f"a shape of {features} values, as X has {features} features"
        raise ValueError(mismatch("input_shape", expected, f"{shape}, which has {math.prod(shape)}"))
    return shape


def make_net(
    model: str | Callable[..., Any],
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
    *,
    hidden: Sequence[int],
    activation: Any,
    norm: Any,
) -> Model:
    """Return a new net.

    Parameters
    ----------
    model : str or callable
        A name in `minitrain.models`, or `model(input_shape, outputs, seed)` that returns a Model, or a function from
        the node of the input to the node of the output.
    hidden, activation, norm
        For names; "auto" is no norm for "mlp", and batch norm before each activation for the others.

    Raises
    ------
    ValueError, TypeError
        An unknown name; a net that does not take such samples, or has other outputs.
    """
    if isinstance(model, str):
        expect_one_of("model", model, tuple(MODELS))
        if isinstance(norm, str) and norm == "auto":
            norm = None if model == "mlp" else "before"
        sizes = {"hidden": _sizes(hidden)} if model == "mlp" else {}
        settings = {"activation": activation, "norm": norm, "seed": seed, **sizes}
        return _checked(MODELS[model](input_shape=input_shape, classes=outputs, **settings), input_shape, outputs)
    if not callable(model):
        raise TypeError(mismatch("model", "a name or a function (input_shape, outputs, seed)", repr(model)))
    made = model(input_shape, outputs, seed)
    if not isinstance(made, Model) and callable(made):
        x = Input(input_shape)
        made = Model(x, made(x), seed=seed)
    return _checked(made, input_shape, outputs)


def _checked(made: Any, input_shape: tuple[int, ...], outputs: int) -> Model:
    expected = f"a Model of samples {input_shape} with one output {(outputs,)}, or a function from node to node"
    if not isinstance(made, Model):
        raise TypeError(mismatch("model", expected, type(made).__name__))
    inputs = [spec.shape for spec in made.graph.inputs.values()]
    if len(inputs) != 1 or len(inputs[0]) != len(input_shape) or made.output_names or made.output_shape != (outputs,):
        raise ValueError(mismatch("model", expected, f"one of samples {inputs} with output {made.output_shape}"))
    return made


def _sizes(hidden: Any) -> tuple[int, ...]:
    given = [hidden] if np.ndim(hidden) == 0 else list(hidden)
    return tuple(expect_integer("hidden", size) for size in given)


def number_of_epochs(epochs: Any, samples: int, batch_size: int, early_stopping: bool) -> int:
    """Return how long to train; "auto": 30 epochs, or more to make 200 steps, but many more where they end early."""
    if not isinstance(epochs, str):
        return expect_integer("epochs", epochs)
    expect_one_of("epochs", epochs, ("auto",))
    least, steps = (LONGEST_EPOCHS, LONGEST_STEPS) if early_stopping else (EPOCHS, STEPS)
    return max(least, math.ceil(steps / math.ceil(samples / batch_size)))


def make_optimizer(optimizer: Any, learning_rate: Any, alpha: Any, steps: int | None) -> Optimizer:
    """Return the optimizer.

    Parameters
    ----------
    optimizer : str or Optimizer
        One of minitrain's is returned as it is.
    learning_rate : float or Schedule
        A number is the peak of one cycle over all steps; where their number is not known, a tenth of it is the rate.
    alpha : float
        Weight decay of "adamw", the L2 penalty of the others.
    steps : int, optional
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(mismatch("optimizer", f"one of {', '.join(OPTIMIZERS)} or an Optimizer", repr(optimizer)))
    expect_one_of("optimizer", optimizer, OPTIMIZERS)
    penalty = expect_number("alpha", alpha, 0.0)
    rate: float | Schedule
    if isinstance(learning_rate, Schedule):
        rate = learning_rate
    else:
        peak = expect_number("learning_rate", learning_rate, 0.0, open_low=True)
        rate = CONSTANT_SHARE * peak if steps is None else OneCycle(peak, steps, warmup=0.2)
    if optimizer == "adamw":
        return AdamW(rate, weight_decay=penalty)
    if optimizer == "adam":
        return Adam(rate, l2=penalty)
    return RMSprop(rate, l2=penalty) if optimizer == "rmsprop" else SGD(rate, momentum=0.9, l2=penalty)


def on_few_threads(model: Model, batch: int) -> AbstractContextManager[None]:
    """Return a block in which nets too small for threads run on one; the bits are the same."""
    shapes = model.graph.shapes(batch)
    flops = sum(node.layer.flops(*(shapes[value] for value in node.inputs)) for node in model.graph.nodes)
    return serially() if flops <= SERIAL_FLOPS else contextlib.nullcontext()


def outputs_of(model: Model, x: Array) -> Array:
    """Return the outputs for samples (N, *input shape).

    Whatever comes beside a sample, its outputs have the same bits: batches are filled up to one of few sizes, as a
    product of one or two samples may be made in another way than one of many.
    """
    count = len(x)
    size = next((size for size in INFERENCE_BATCHES if count <= size), INFERENCE_BATCHES[-1])
    filled = np.zeros((-(-count // size) * size, *x.shape[1:]), x.dtype)
    filled[:count] = x
    with on_few_threads(model, size):
        return np.asarray(model.predict(filled, batch_size=size)[:count])
