"""Side by side with the peers that are installed: `python -m benchmarks.peers batch-norm [--json FILE]`.

A suite is a module `benchmarks.peers_<suite>` with a function `run(compiled=True)`, which prints its tables and returns
what it measured; `compiled=False` leaves torch.compile out. Those of whole nets take the beginnings of the names of
`nets` and the names of `peers`, too.
"""

import argparse
import importlib
from typing import Any

import numba

from benchmarks.nets import NETS, chosen
from benchmarks.remote import OTHERS
from benchmarks.side_by_side import TORCH
from benchmarks.timing import installed, machine, write_json
from nbnorm.jit.sharing import sharing

SUITES = ("batch-norm", "norms", "conv", "training-step", "inference", "busy")
OF_NETS = ("training-step", "inference", "busy")
PEERS = (*TORCH, *OTHERS)


def module_of(suite: str) -> str:
    return f"benchmarks.peers_{suite.replace('-', '_')}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare with other libraries.")
    parser.add_argument("suite", choices=[*SUITES, "all"])
    parser.add_argument("--json", metavar="FILE", help="write what was measured there, too")
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS, help="threads for everyone")
    parser.add_argument("--no-compiled", action="store_true", help="leave torch.compile out: it takes minutes")
    parser.add_argument("--net", action="append", metavar="NAME", help=f"only nets that begin so; {', '.join(NETS)}")
    parser.add_argument("--peer", action="append", metavar="NAME", help=f"only these peers; {', '.join(PEERS)}")
    options = parser.parse_args()
    if (options.net or options.peer) and options.suite not in OF_NETS:
        parser.error(f"--net and --peer are for {', '.join(OF_NETS)}")
    unknown = [peer for peer in options.peer or () if peer.lower() not in map(str.lower, PEERS)]
    if unknown:
        parser.error(f"--peer: expected one of {', '.join(PEERS)}, got {', '.join(unknown)}")
    try:
        chosen(options.net)
    except ValueError as error:
        parser.error(str(error))
    numba.set_num_threads(options.threads)
    sharing.enable(False)  # the peers that run in processes of their own are not what it is for
    if installed("torch"):
        import torch

        torch.set_num_threads(options.threads)

    results: dict[str, Any] = {"machine": machine(options.threads)}
    for name, text in results["machine"].items():
        print(f"- {name}: {text}")
    print()
    for suite in SUITES if options.suite == "all" else (options.suite,):
        named = {"nets": options.net, "peers": options.peer} if suite in OF_NETS else {}
        run = importlib.import_module(f"benchmarks.peers_{suite.replace('-', '_')}").run
        results.update(run(compiled=not options.no_compiled, **named))
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
