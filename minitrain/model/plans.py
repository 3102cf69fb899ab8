"""The plans of a model, the memory they run in, and who holds it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from minitrain.compile.plan import Plan, new_arena
from minitrain.layer import Shape
from nbnorm.jit.sharing import sharing

__all__ = ["Held", "Plans", "Wanted"]

MOST_PLANS = 32  # of different shapes, kept bound at a time in one arena
PATIENCE = 1.0  # seconds that a fork waits for a training step of another thread: longer than most take

Arena = Callable[[int], npt.NDArray[np.uint8]]

_all: weakref.WeakSet[Plans] = weakref.WeakSet()  # of this process
_forking = threading.RLock()  # held from before a fork until after it
_taken: list[Plans] = []  # whose memory is held meanwhile
_not_taken: list[Plans] = []  # in whose memory another thread computes


@dataclass(frozen=True)
class Wanted:
    """What a plan is for.

    Attributes
    ----------
    shapes : tuple of shapes
        Of the inputs, batch axis first.
    training, input_gradients : bool
    losses : tuple of str, optional
        The outputs whose gradients will be given; all unless given.
    keep : bool
        Whether no memory is used twice, so that a training plan may run backward several times after one forward.
    differentiated : tuple of (name, value)
        What to differentiate by the inputs, as the trained net computes it; see `Model.input_gradient`.
    """

    shapes: tuple[Shape, ...]
    training: bool = False
    input_gradients: bool = False
    losses: tuple[str, ...] | None = None
    keep: bool = False
    differentiated: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        return hash((self.shapes, self.training))


class Plans:
    """Plans by what they are for, in arenas that belong to one call at a time.

    Whoever runs a plan holds it from the first write to the last read, with `hold`. Other threads wait. What the same
    thread runs meanwhile, such as a metric that predicts, has an arena of its own.

    Parameters
    ----------
    make : callable
        `make(wanted, arena)` binds a plan.

    Attributes
    ----------
    version : int
        How often all plans were forgotten: one that was made under another version is of graphs that are gone.
    """

    def __init__(self, make: Callable[[Wanted, Arena], Plan]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._levels = [_Level()]
        self._depth = 0
        self._training = False
        self._threads = 0  # that there were before fewer ran, 0 where all do
        self.version = 0
        with _forking:
            _all.add(self)

    def get(self, wanted: Wanted) -> Plan:
        """Return the plan in the memory that whoever holds none uses; for looking at it."""
        with self._lock:
            return self._levels[0].plan(wanted, self._make)

    def hold(self, wanted: Wanted) -> Held:
        """Return a context manager that gives the plan, and its memory until the end of the block."""
        return Held(self, wanted)

    @contextlib.contextmanager
    def turn(self, training: bool) -> Iterator[None]:
        """Take the model from other threads for a block that runs a plan in memory of its own.

        What is shared are parameters, state and gradients, and what is derived from them.
        """
        with self._lock:
            if self._depth and training:
                raise self._refusal()
            before = self._training
            threads = 0 if self._depth else sharing.begin()
            self._training |= training
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                self._training = before
                sharing.end(threads)

    @staticmethod
    def _refusal() -> RuntimeError:
        return RuntimeError(
            "this model is in the middle of a step or an evaluation: a loss, a metric or a layer may predict or "
            "evaluate with it, but not train it or ask for gradients; do that in a callback"
        )

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Within the block no other thread runs a plan."""
        with self._lock:
            yield

    def clear(self) -> None:
        """Forget all plans: they are bound anew when they are next asked for.

        Raises
        ------
        RuntimeError
            One of them is running.
        """
        with self._lock:
            if self._depth:
                raise RuntimeError("this model is running: what it is made of can be changed after that")
            self._levels = [_Level()]
            self.version += 1

    def before_fork(self) -> bool:
        """Take the memory if nobody computes in it; wait for a step, so that no child gets half of an update."""
        return self._lock.acquire(timeout=PATIENCE if self._training else 0)

    def after_fork(self) -> None:
        """Give back what `before_fork` took."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Take the memory from the thread that was computing in it: it did not come along."""
        self._lock = threading.RLock()
        self._levels = [_Level()]
        self._depth = 0
        self._training = False


class Held:
    """A plan and the memory it runs in, for a `with` block."""

    __slots__ = ("_plans", "_wanted")

    def __init__(self, plans: Plans, wanted: Wanted) -> None:
        self._plans = plans
        self._wanted = wanted

    def __enter__(self) -> Plan:
        # One function and not five: a step of a small net takes so little that calls show.
        plans, wanted = self._plans, self._wanted
        plans._lock.acquire()
        try:
            depth = plans._depth
            if depth and wanted.training:
                raise plans._refusal()
            if depth == len(plans._levels):
                plans._levels.append(_Level())
            level = plans._levels[depth]
            last = level.last
            plan = last[1] if last is not None and last[0] is wanted else level.plan(wanted, plans._make)
            if not depth:
                plans._threads = sharing.begin()
        except BaseException:
            plans._lock.release()
            raise
        plans._depth = depth + 1
        if wanted.training:
            plans._training = True
        return plan

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        plans = self._plans
        plans._depth -= 1
        if not plans._depth and plans._threads:
            sharing.end(plans._threads)
            plans._threads = 0
        if self._wanted.training:
            plans._training = False
        plans._lock.release()


class _Level:
    """One arena and the plans that are bound to it, the last used last."""

    def __init__(self) -> None:
        self._arena = new_arena(0)
        self._plans: OrderedDict[Wanted, Plan] = OrderedDict()
        self.last: tuple[Wanted, Plan] | None = None  # asked for again and again: by the same object

    def plan(self, wanted: Wanted, make: Callable[[Wanted, Arena], Plan]) -> Plan:
        plan = self._plans.get(wanted)
        if plan is None:
            plan = make(wanted, self._provide)
            if len(self._plans) >= MOST_PLANS:
                self._plans.popitem(last=False)
            self._plans[wanted] = plan
        else:
            self._plans.move_to_end(wanted)
        self.last = wanted, plan
        return plan

    def _provide(self, size: int) -> npt.NDArray[np.uint8]:
        """Grow the arena; plans that are bound to the old one are made again when they are next asked for."""
        if size > self._arena.size:
            self._plans.clear()
            self._arena = new_arena(size)
        return self._arena


def _before_fork() -> None:
    _forking.acquire()
    for plans in list(_all):
        (_taken if plans.before_fork() else _not_taken).append(plans)


def _after_fork() -> None:
    while _taken:
        _taken.pop().after_fork()
    _not_taken.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for plans in _not_taken:
        plans.after_fork_in_child()
    _after_fork()


if sys.platform != "win32":  # where no process forks
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
