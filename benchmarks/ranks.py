"""Training on several ranks of this machine, against one process of as many threads and PyTorch's DDP over gloo.

python -m benchmarks.ranks [--ranks 2] [--net resnet20-128] [--json FILE]

All are measured in the same processes, in turn: a way that needs one process alone runs on the first rank, with the
threads of all, while the others sleep. Then each net's step is taken apart: what one rank takes for its part of the
batch, and what the ranks say to each other. `waits` is what these leave unexplained, for the most part waiting for the
slower core wherever ranks meet; `hidden` is what would be gained if the sums of gradients were under way during all of
the computing. `python -m benchmarks.scaling FILE` goes on from there to more ranks.

With more ranks than cores, MPICH's waiting for messages takes cores from those who compute; such rows say nothing of a
machine that has the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.nets import NETS, chosen
from benchmarks.timing import machine, markdown, write_json

__all__ = ["IN_PARTS", "USUAL", "run"]

USUAL = ("resnet20-128", "resnet20-32", "mnist-b", "mlp", "resnet18-64")
IN_PARTS = ("resnet18-224", "resnet50-128")  # too slow for all ways


def run(ranks: int, nets: Sequence[str], in_parts: Sequence[str]) -> dict[str, Any]:
    """Measure nets on so many ranks, all ways of them or their parts alone; prints tables and returns all of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "found.json")
        command = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(ranks), sys.executable]
        command += ["-m", "mpi4py", "-m", "benchmarks.rank_worker", str(path), ",".join(nets), ",".join(in_parts)]
        subprocess.run(command, check=True, env=dict(os.environ, NBNORM_COMPILE_PROCESSES="0"))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    _print(found)
    return found


def _print(found: dict[str, Any]) -> None:
    names = list(dict.fromkeys(name for row in found["steps"] for name in row["ms"]))
    rows = [[row["net"], *(row["ms"].get(name) for name in names)] for row in found["steps"]]
    print("\n" + markdown(["training step, ms", *names], rows) + "\n")
    times = ("alone", "step", "model", "waits", "part", "outputs", "statistics", "gradients", "hidden")
    parts = [
        [row["net"], row["ranks"], *(row[name] for name in times), row["norms"], row["values"]]
        for row in found["parts"]
    ]
    print(markdown(["net", "ranks", *(f"{name} ms" for name in times), "norms", "values"], parts) + "\n")
    collectives = [[row["bytes"], row["allreduce"], row["allgather"]] for row in found["collectives"]]
    print(markdown(["bytes", "allreduce us", "allgather us"], collectives) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description="Measure training on ranks.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--net", action="append", metavar="NAME", help=f"only nets that begin so; {', '.join(NETS)}")
    parser.add_argument("--json", metavar="FILE", help="write what was measured there, too")
    options = parser.parse_args()
    nets, in_parts = (tuple(chosen(options.net)), ()) if options.net else (USUAL, IN_PARTS)
    about = machine(1)
    for name, text in about.items():
        print(f"- {name}: {text}")
    found = run(options.ranks, nets, in_parts)
    if options.json:
        write_json(options.json, {"machine": about, **found})


if __name__ == "__main__":
    main()
