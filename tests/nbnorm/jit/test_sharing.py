"""How many threads run beside other programs, from planted readings and in a real run."""

import math
import os
import subprocess
import sys
import textwrap

import numba
import pytest

from nbnorm.jit.internals.load import Reading
from nbnorm.jit.sharing import INTERVAL, Sharing


class Machine:
    """A clock and a load that a test sets."""

    def __init__(self, cores):
        self.now, self.idle, self.cores, self.reads = 0.0, 0.0, cores, 0

    def read(self):
        self.reads += 1
        return Reading(self.now, self.idle, 0.0)

    def pass_time(self, seconds, free):
        self.now += seconds
        self.idle += seconds * free


@pytest.fixture
def machine():
    return Machine(4)


@pytest.fixture
def sharing(machine):
    return Sharing(True, machine.read, lambda: machine.now)


@pytest.mark.parametrize(
    ("free", "most", "threads"),
    [(4.0, 4, 4), (3.75, 4, 4), (3.6, 4, 3), (3.0, 4, 3), (1.0, 4, 1), (0.2, 4, 1), (0.0, 2, 1), (1.6, 2, 1),
     (1.8, 2, 2), (2.0, 1, 1), (9.0, 2, 2)],
)  # fmt: skip
def test_as_many_threads_as_cores_are_free(free, most, threads, machine, sharing):
    sharing.begin()
    machine.pass_time(INTERVAL, free)
    sharing.end(sharing.begin())
    assert sharing.free == pytest.approx(free)
    assert sharing.threads(most) == threads


def test_all_threads_run_until_something_is_known(sharing):
    before = numba.get_num_threads()
    assert sharing.begin() == 0
    assert numba.get_num_threads() == before
    assert sharing.free == math.inf


def test_the_number_of_threads_comes_back(machine, sharing):
    before = numba.get_num_threads()
    if before == 1:
        pytest.skip("one thread has nothing to share")
    sharing.begin()
    machine.pass_time(INTERVAL, 0.1)
    former = sharing.begin()
    assert numba.get_num_threads() == 1
    assert sharing.begin() == 0  # nested: there is one already
    sharing.end(0)
    assert numba.get_num_threads() == 1
    sharing.end(former)
    assert numba.get_num_threads() == before
    machine.pass_time(INTERVAL, 4.0)
    assert sharing.begin() == 0  # the others have gone
    assert numba.get_num_threads() == before


def test_nobody_looks_more_often_than_that(machine, sharing):
    for _ in range(100):
        sharing.end(sharing.begin())
        machine.pass_time(INTERVAL / 20, 4.0)
    assert machine.reads <= 6


@pytest.mark.parametrize("enabled", [False, True])
def test_without_a_reading_all_threads_run(enabled):
    reads = []
    sharing = Sharing(enabled, lambda: reads.append(1), lambda: 1.0)
    for _ in range(3):
        assert sharing.begin() == 0
    assert len(reads) == enabled  # nobody is asked twice for what he does not know
    assert sharing.free == math.inf


def test_a_child_begins_anew(machine, sharing):
    sharing.begin()
    machine.pass_time(INTERVAL, 0.5)
    sharing.end(sharing.begin())
    sharing._looking.acquire()
    sharing.forget()
    assert sharing.free == math.inf
    machine.pass_time(INTERVAL, 2.0)
    sharing.begin()
    machine.pass_time(INTERVAL, 2.0)
    sharing.end(sharing.begin())
    assert sharing.free == pytest.approx(2.0)


PROGRAM = """
    import time, numpy as np, numba
    from nbnorm.jit.sharing import sharing
    from minitrain import Trainer, losses, models, optimizers

    seen = set()
    class Watched(losses.SoftmaxCrossEntropy):
        def __call__(self, *args, **kwargs):
            seen.add(numba.get_num_threads())
            return super().__call__(*args, **kwargs)

    trainer = Trainer(models.mlp((1, 8, 8), 10, hidden=(16,)), Watched(), optimizers.SGD(0.1), compile_processes=0)
    x, y = np.random.default_rng(0).standard_normal((32, 1, 8, 8)), np.arange(32) % 10
    trainer.step(x, y)
    seen.clear()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        trainer.step(x, y)
    print(sorted(seen), numba.get_num_threads(), sharing.free != float("inf"))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_training_beside_busy_processes_runs_on_one_thread():
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("one core has nothing to share")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM)],
            env={**os.environ, "NUMBA_NUM_THREADS": str(cores)}, capture_output=True, text=True, timeout=300,
            check=True,
        )  # fmt: skip
    finally:
        for each in busy:
            each.kill()
            each.wait()
    seen, there = result.stdout.split("] ")
    assert "1" in seen.strip("[").split(", ")
    assert there == f"{cores} True\n"


def test_it_can_be_turned_off_and_on(machine, sharing):
    sharing.begin()
    machine.pass_time(INTERVAL, 1.0)
    sharing.end(sharing.begin())
    sharing.enable(False)
    reads = machine.reads
    machine.pass_time(INTERVAL, 1.0)
    assert sharing.begin() == 0
    assert (machine.reads, sharing.free) == (reads, math.inf)
    sharing.enable(True)
    assert sharing.begin() == 0  # nothing is known yet
    machine.pass_time(INTERVAL, 1.0)
    sharing.end(sharing.begin())
    assert sharing.free == pytest.approx(1.0)
