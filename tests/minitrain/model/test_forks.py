"""A child that is forked while another thread of its parent computes can compute, too."""

import os
import subprocess
import sys
import textwrap

import pytest
from paths import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")

FORKS = textwrap.dedent(
    """
    import os, signal, sys, threading, time
    import numpy as np
    from minitrain import Trainer, losses, models, optimizers
    from nbnorm.jit import serially

    model = models.lenet()
    x = np.random.default_rng(0).standard_normal((8, 1, 28, 28)).astype("f4")
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.0))
    work = (lambda: model.predict(x)) if sys.argv[1] == "predict" else (lambda: trainer.step(x, np.arange(8)))
    for _ in range(2):
        model.predict(x), trainer.step(x, np.arange(8))
    with serially():  # what a child runs is compiled here once rather than in each
        model.predict(x), trainer.step(x, np.arange(8))
    stop, failed = threading.Event(), 0

    def compute():
        while not stop.is_set():
            work()

    thread = threading.Thread(target=compute)
    thread.start()
    for _ in range(12):
        time.sleep(0.005)
        child = os.fork()
        if not child:
            signal.alarm(120)
            ended = 1
            try:
                ended = 0 if np.isfinite(model.predict(x)).all() and np.isfinite(trainer.step(x, np.arange(8))) else 2
            finally:
                os._exit(ended)
        failed += os.waitpid(child, 0)[1] != 0
    stop.set()
    thread.join()
    print(failed, "of 12 failed")
    """
)


@pytest.mark.parametrize("work", ["predict", "step"])
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_children_compute(work, layer):
    settings = os.environ | {"NUMBA_THREADING_LAYER": layer, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, work],
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout.strip() == "0 of 12 failed", ended.stdout + ended.stderr
