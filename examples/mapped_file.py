"""Train on a memory-mapped file of bytes that need not fit into memory: batches are read as they are trained on.

`python examples/mapped_file.py 1024` writes a file of 1024 MiB into the current folder, 16 by default, trains one epoch
and says by how much memory grew meanwhile.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from minitrain import Trainer, losses, models, optimizers

mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 16
shape = (3, 32, 32)
count = mebibytes * 2**20 // int(np.prod(shape))

# Pictures of a square that is bright in one of ten shades, written in pieces.
file, rng = Path("pictures.npy"), np.random.default_rng(0)
labels = rng.integers(0, 10, count)
with file.open("wb") as opened:
    header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(opened, header)
    for first in range(0, count, 4096):
        piece = rng.integers(0, 60, (min(4096, count - first), *shape), dtype=np.uint8)
        piece[:, :, 8:24, 8:24] += (labels[first : first + 4096] * 18).astype(np.uint8)[:, None, None, None]
        opened.write(piece)

mapped = np.load(file, mmap_mode="r")
trainer = Trainer(models.mlp(shape, 10, hidden=(16,)), losses.SoftmaxCrossEntropy(), optimizers.Adam())
trainer.fit(mapped[:1024], labels[:1024], epochs=1, batch_size=128, verbose=False)  # what it takes for any set


def peak() -> int:
    """Return the most memory that the process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


before = peak()
held_out = (mapped[: count // 10], labels[: count // 10])
trainer.fit(mapped, labels, epochs=1, batch_size=128, validation_data=held_out, verbose=False)
result = trainer.evaluate(mapped, labels)
grown = (peak() - before) / 2**20
print(f"{mapped.nbytes / 2**20:.0f} MiB, {count} pictures: accuracy {result['accuracy']:.3f}")
print(f"peak memory grew by {grown:.0f} MiB")
