"""What a training step costs a new process: the time to its first result, and memory beyond the imports.

Each is measured in processes of its own, from the start of the interpreter to the end of the first ResNet-20 step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import installed, markdown

__all__ = ["run"]

BATCH = 128
STEPS = 3  # until the peak is reached

COMMON = f"""
import json, sys
from pathlib import Path
import numpy as np

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024

x = np.random.default_rng(0).standard_normal(({BATCH}, 3, 32, 32)).astype(np.float32)
labels = np.arange({BATCH}) % 10
threads, steps = int(sys.argv[1]), int(sys.argv[2])
"""

# step() is defined after the imports are counted; "5" sets the peak that the kernel remembers to what is in use now
MEASURE = """
for _ in range(steps):
    step()
print(json.dumps(memory("VmHWM") - before if before else None))
"""

COUNT = """
try:
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
except OSError:
    before = None
"""

PROGRAMS = {
    "minitrain": f"""{COMMON}
import numba
numba.set_num_threads(threads)
from minitrain import Trainer, losses, models, optimizers
{COUNT}
model = models.resnet20((3, 32, 32), 10)
trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.01, momentum=0.9))
step = lambda: trainer.step(x, labels)
{MEASURE}""",
    "PyTorch": f"""{COMMON}
import torch
torch.set_num_threads(threads)
from benchmarks.torch_net import TorchNet
from minitrain import models
{COUNT}
net = TorchNet(models.resnet20((3, 32, 32), 10)).train()
optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
tx, ty = torch.from_numpy(x), torch.from_numpy(labels)
def step():
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(net(tx), ty).backward()
    optimizer.step()
{MEASURE}""",
}


def _start(name: str, threads: int, steps: int, cache: Path | None = None) -> tuple[float, float | None]:
    """Run a program; seconds from its start to its end, MiB at the peak beyond the imports (Linux only)."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([os.getcwd(), *(path for path in sys.path if path)]))
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", PROGRAMS[name], str(threads), str(steps)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, json.loads(done.stdout.splitlines()[-1])


def run(threads: int) -> list[dict[str, Any]]:
    """Measure and print the table; the names of peers that are not installed are left out."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        cold, _ = _start("minitrain", threads, 1, cache)
        warm = min(_start("minitrain", threads, 1, cache)[0] for _ in range(3))
        rows.append({"process": "minitrain", "cold s": cold, "warm s": warm})
        rows[0]["peak MiB"] = _start("minitrain", threads, STEPS, cache)[1]
    if installed("torch"):
        warm = min(_start("PyTorch", threads, 1)[0] for _ in range(3))
        rows.append({"process": "PyTorch", "cold s": None, "warm s": warm})
        rows[1]["peak MiB"] = _start("PyTorch", threads, STEPS)[1]
    header = [
        f"ResNet-20, batch {BATCH}",
        "first step done, empty cache, s",
        "first step done, warm, s",
        "peak memory beyond imports, MiB",
    ]
    columns = ("process", "cold s", "warm s", "peak MiB")
    print("\n" + markdown(header, [[row.get(name) for name in columns] for row in rows]) + "\n", flush=True)
    return rows
