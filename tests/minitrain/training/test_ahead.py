"""What helpers compile for a training step is what the step needs."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from small_trainer import CLASSES, make_trainer, small_net

from minitrain import Trainer, losses, models, optimizers
from nbnorm.jit import helpers

PROGRAM = """
import numpy as np
from small_trainer import CLASSES, make_trainer
from nbnorm.jit import Kernel, helpers
from nbnorm.jit.internals.cache import cache_folder

offers = []
helpers._start = lambda offer, count, folder: offers.append(offer)
step = lambda: make_trainer().step(np.ones((512, 6), "float32"), np.zeros(512, int))
{action}
print(*sorted(path.name for path in cache_folder().rglob("*.nbc")))
"""
REAL = "step()"
HELPER = """
Kernel.only_compile()
try:
    step()
except Exception:
    pass
helpers.help_others(next(filter(None, offers)))  # the check of labels comes before anything is offered
"""


def kernels(action, cache):
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(cache)}
    program = PROGRAM.format(action=action)
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_helpers_compile_what_a_step_needs(tmp_path):
    assert kernels(HELPER, tmp_path / "a") == kernels(REAL, tmp_path / "b") != []


@pytest.mark.parametrize("make", [small_net, models.lenet])
def test_the_first_step_with_each_batch_size_is_offered(make, monkeypatch):
    offers = []

    def offered(calls, *args, processes):
        assert processes is None
        offers.append(calls(*args))
        return helpers.offered(calls, *args)

    monkeypatch.setattr("minitrain.training.ahead.offered", offered)
    model = make()
    trainer = make_trainer(model)
    for batch in (4, 4, 3, 4):
        trainer.step(np.ones((batch, *model.input_shapes["input"]), "float32"), np.arange(batch) % CLASSES)
    assert len(offers) == 2
    assert len(offers[0]) > len(model.graph.nodes)


@pytest.mark.parametrize("processes", [0, 2])
def test_the_trainer_says_how_many_processes_help(processes, monkeypatch):
    wanted = []

    def offered(*_, processes):
        wanted.append(processes)
        return contextlib.nullcontext()

    monkeypatch.setattr("minitrain.training.ahead.offered", offered)
    model = small_net()
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1), compile_processes=processes)
    trainer.step(np.ones((4, *model.input_shapes["input"]), "float32"), np.arange(4) % CLASSES)
    assert wanted == [processes]


@pytest.mark.parametrize("processes", [-1, 1.5, "2", True])
def test_what_is_no_number_of_processes(processes):
    with pytest.raises((ValueError, TypeError), match=r"compile_processes: expected an integer.*, got"):
        Trainer(small_net(), losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1), compile_processes=processes)
