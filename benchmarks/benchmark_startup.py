"""What a new process pays: imports, kernels that must be compiled, kernels that are in the cache."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = {"nbnorm": "import nbnorm", "minitrain": "import minitrain"}

PROGRAMS = {
    "batch norm": """
import numpy, nbnorm
x = numpy.ones((8, 64, 64), "float32")
y, stats = nbnorm.batch_norm_forward(x, numpy.ones(64, "float32"), numpy.zeros(64, "float32"))
nbnorm.batch_norm_backward(y, x, stats, numpy.ones(64, "float32"), numpy.zeros(64, "float32"))
""",
    "lenet step": """
import numpy
from minitrain import Trainer, losses, models, optimizers
trainer = Trainer(models.lenet(), loss=losses.SoftmaxCrossEntropy(), optimizer=optimizers.SGD(0.01))
trainer.step(numpy.ones((16, 1, 28, 28), "float32"), [number % 10 for number in range(16)])
""",
}


def seconds(program, cache=None):
    """Run a program in a fresh interpreter that finds the packages where this one did; return its wall time."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return time.perf_counter() - started


class Import:
    """Fastest of five fresh interpreters, less what an empty one takes."""

    params = (list(IMPORTS),)
    param_names = ("package",)
    unit = "seconds"
    timeout = 180
    runs = 5

    def track_import(self, package):
        empty = min(seconds("") for _ in range(self.runs))
        return min(seconds(IMPORTS[package]) for _ in range(self.runs)) - empty


class Start:
    """A whole program from start to end, in a fresh interpreter."""

    params = (list(PROGRAMS),)
    param_names = ("program",)
    unit = "seconds"
    timeout = 600

    def track_cold(self, program):
        with tempfile.TemporaryDirectory() as cache:
            return seconds(PROGRAMS[program], cache)

    def track_warm(self, program):
        with tempfile.TemporaryDirectory() as cache:
            seconds(PROGRAMS[program], cache)
            return min(seconds(PROGRAMS[program], cache) for _ in range(3))

    def track_kernels(self, program):
        with tempfile.TemporaryDirectory() as cache:
            seconds(PROGRAMS[program], cache)
            return sum(1 for path in Path(cache).rglob("*.nb?") if path.suffix != ".nbi")


Start.track_kernels.unit = "kernels compiled"
