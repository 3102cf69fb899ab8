"""What the benchmarks share: threads, single layers bound to memory, and how asv is to measure.

asv-runner from 0.3 on calls `setup` before every timed call, older ones before every sample. `once` makes all but the
first of these calls free, so that arrays stay where they are and in cache, as in a training loop.
"""

import functools
import os

import numba
import numpy as np
from threadpoolctl import threadpool_limits

THREADS = ["1", "all"]  # "all" rather than a number: results of different machines stand beside each other
_IMPORTED_BY = os.getpid()


class Timed:
    """How asv measures: base of the classes with `time_` methods."""

    # Two rounds, minutes apart, see two moods of a shared machine; 10 to 60 calls or a quarter of a second each give
    # a median. Kernels are compiled in `setup`; a tenth of a second more lets threads and clock rate settle.
    rounds = 2
    repeat = (10, 60, 0.25)
    warmup_time = 0.1
    number = 1
    timeout = 180  # kernels of a new commit are compiled within it


def once(setup):
    """Run `setup` for new parameters only. asv still sees its source, which is part of a benchmark's version."""

    @functools.wraps(setup)
    def run(self, *params):
        if getattr(self, "_set_up", None) != params:
            self._set_up = None
            setup(self, *params)
            self._set_up = params

    return run


def use_threads(threads):
    """Set the threads of the kernels and of BLAS; `threads` is one of `THREADS`."""
    if os.getpid() != _IMPORTED_BY:
        raise RuntimeError("forked: kernels would run on one thread; use asv's --launch-method=spawn")
    count = numba.config.NUMBA_NUM_THREADS if threads == "all" else int(threads)
    numba.set_num_threads(count)
    threadpool_limits(count, user_api="blas")


def normal(shape, dtype="float32", seed=0):
    """Normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape, dtype)


def _bound_plan(model, shapes, training):
    """`layer_plan` in a tree whose models have no `bind`."""
    from minitrain.compile.plan import Plan

    gradients = model.gradients if training else None
    plan = Plan(model.graph, shapes[0][0], model.dtype, model.params, model.state, gradients, share_memory=False,
                input_gradients=training)  # fmt: skip
    plan.load([normal(shape, seed=number) for number, shape in enumerate(shapes)])
    plan.forward()
    if training:
        plan.output_gradient[...] = normal(plan.output.shape, seed=9)
        plan.backward()
    return plan


def layer_plan(layer, *shapes, training=True):
    """Bind one layer to memory of its own, with the gradients of its inputs, run it once, and return the plan."""
    from minitrain import Input, Model

    inputs = [Input(shape[1:], name=f"x{number}") for number, shape in enumerate(shapes)]
    model = Model(inputs, layer(*inputs), seed=0)
    if not hasattr(model, "bind"):  # a tree that the gate holds this one against
        return _bound_plan(model, shapes, training)
    run = model.bind(dict(zip(model.input_shapes, shapes, strict=True)), training=training, input_gradients=training,
                     keep=training)  # fmt: skip
    run.forward([normal(shape, seed=number) for number, shape in enumerate(shapes)])
    if training:
        run.backward(normal(run.plan.output.shape, seed=9))
    return run.plan
