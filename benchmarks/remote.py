"""Peers in processes of their own: their libraries share no threads with ours, and one that fails takes no run along.

A worker (`benchmarks.peer_worker`) builds a net, runs it once, and then times as many calls as it is asked for.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

from benchmarks.timing import SelfTimed, installed

__all__ = ["OTHERS", "PeerError", "Remote", "other_peers"]

# Name, what it needs, and whether it trains; their code is in `benchmarks.peer_worker`.
OTHERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "Keras on JAX": (("keras", "jax"), True),
    "Keras on TensorFlow": (("keras", "tensorflow-cpu"), True),
    "MLX": (("mlx",), True),
    "scikit-learn": (("scikit-learn",), True),
    "ONNX Runtime": (("onnxruntime", "onnx", "torch"), False),
    "OpenVINO": (("openvino", "onnx", "torch"), False),
}
READY = 150.0  # seconds until a peer has run once: compilers of large nets take a minute
SLOWEST = 4.0  # seconds of a call above which a peer is not measured further


class PeerError(RuntimeError):
    """A peer that cannot do what it is asked for, with the reason."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"{peer}: {reason}")
        self.peer, self.reason = peer, reason


class Remote(SelfTimed):
    """A call in another process.

    Parameters
    ----------
    peer, net : str
        Keys of `OTHERS` and `benchmarks.nets.NETS`.
    task : "training-step" or "inference"
    batch, threads : int
    """

    def __init__(self, peer: str, net: str, task: str, batch: int, threads: int) -> None:
        self._peer = peer
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by `close`)
        command = [sys.executable, "-m", "benchmarks.peer_worker", peer, net, task, str(batch), str(threads)]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([os.getcwd(), *(path for path in sys.path if path)]))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )
        try:
            once = self._answer(READY)
            if once > SLOWEST:
                raise PeerError(self._peer, f"{once:.1f} s a call")
        except PeerError:
            self.close()
            raise

    def seconds(self, repeat: int) -> float:
        """Run so many calls; seconds that they took over there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"%d\n" % repeat)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._peer, self._last_words()) from None
        return self._answer(READY)

    def close(self) -> None:
        """End the process."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._errors.close()

    def _answer(self, limit: float) -> float:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                raise PeerError(self._peer, f"no answer within {limit:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._peer, self._last_words())
        return float(line)

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1][:200] if lines else f"ended with {self._process.returncode}"


def other_peers(
    net: str, task: str, batch: int, threads: int, wanted: Callable[[str], bool]
) -> tuple[dict[str, Remote], dict[str, str]]:
    """Start the wanted peers on a net; returns those that run, and of those that do not, the reason."""
    running, missing = {}, {}
    for name, (packages, trains) in OTHERS.items():
        if not wanted(name) or (task == "training-step" and not trains):
            continue
        if name == "scikit-learn" and net != "digits-mlp":  # it has no batch norm and no convolutions
            continue
        absent = [package for package in packages if not installed(package)]
        if absent:
            missing[name] = f"{' and '.join(absent)} not installed"
            continue
        try:
            running[name] = Remote(name, net, task, batch, threads)
        except PeerError as error:
            missing[name] = error.reason
    return running, missing
