"""A disk that is full in the middle of a file: the error names the file, what was there is still there."""

import os
import subprocess
import sys
import textwrap

import pytest
from paths import ROOT

pytest.importorskip("safetensors")
resource = pytest.importorskip("resource")  # of POSIX: a limit of a file's size is as good as a full disk

PROGRAM = """
    import resource, signal, sys
    from pathlib import Path
    import numpy as np
    from minitrain import Trainer, callbacks, losses, models, optimizers
    from minitrain.checkpoint import save_checkpoint

    trainer = Trainer(models.mlp((1, 8, 8), 10), losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1), compile_processes=0)
    x, y = np.random.default_rng(0).standard_normal((32, 1, 8, 8)), np.arange(32) % 10

    def fit(callback):
        return trainer.fit(x, y, epochs=1, verbose=False, callbacks=[callback])

    writers = {
        "model": trainer.model.save,
        "checkpoint": lambda path: save_checkpoint(trainer, path),
        "fit": lambda path: fit(callbacks.Checkpoint(path)),
        "best": lambda path: fit(callbacks.Checkpoint(path, monitor="loss")),
    }
    folder = Path(sys.argv[1])
    before = {}
    for name, write in writers.items():
        write(folder / name)
        before[name] = (folder / name).read_bytes()
    fit(callbacks.CSVLog(folder / "log"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    for name, write in writers.items():
        try:
            write(folder / name)
        except OSError as error:
            print(name, str(folder / name) in str(error), (folder / name).read_bytes() == before[name])
        else:
            print(name, "wrote what does not fit")
    print("log", len(fit(callbacks.CSVLog(folder / "log")).metrics["loss"]))
    print(*sorted(each.name for each in folder.iterdir()))
"""


def test_a_full_disk(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)],
        env={**os.environ, "NUMBA_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "model True True", "checkpoint True True", "fit True True", "best True True", "log 1",
        "best checkpoint fit log model",
    ]  # fmt: skip
