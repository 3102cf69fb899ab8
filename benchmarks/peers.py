"""Side by side with the peers that are installed: `python -m benchmarks.peers batch-norm [--json FILE]`.

A suite is a module `benchmarks.peers_<suite>` with a function `run(compiled=True)`, which prints its tables and returns
what it measured; `compiled=False` leaves torch.compile out.
"""

import argparse
import importlib
import importlib.util
from typing import Any

import numba

from benchmarks.timing import installed, machine, write_json

SUITES = ("batch-norm", "norms", "conv", "training-step", "inference")


def module_of(suite: str) -> str:
    return f"benchmarks.peers_{suite.replace('-', '_')}"


def main() -> None:
    present = [suite for suite in SUITES if importlib.util.find_spec(module_of(suite))]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare with other libraries.")
    parser.add_argument("suite", choices=[*present, "all"])
    parser.add_argument("--json", metavar="FILE", help="write what was measured there, too")
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS, help="threads for everyone")
    parser.add_argument("--no-compiled", action="store_true", help="leave torch.compile out: it takes minutes")
    options = parser.parse_args()
    numba.set_num_threads(options.threads)
    if installed("torch"):
        import torch

        torch.set_num_threads(options.threads)

    results: dict[str, Any] = {"machine": machine(options.threads)}
    for name, text in results["machine"].items():
        print(f"- {name}: {text}")
    print()
    for suite in present:
        if options.suite in (suite, "all"):
            results.update(importlib.import_module(module_of(suite)).run(compiled=not options.no_compiled))
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
