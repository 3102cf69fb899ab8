"""What the kernels of norms and their loops have in common: phases, what is kept of a channel, what travels together.

Numba takes the named tuples apart: they cost nothing.
"""

from typing import Any, NamedTuple

__all__ = [
    "APPLY", "CENTER", "FINISH", "KEPT", "OFFSET", "SAMPLED", "SCALE", "SHIFT", "SLOPE", "SUM", "WHOLE",
    "Channel", "Gated", "Gradients", "Parameters", "Runs", "Stores", "Table", "Totals",
]  # fmt: skip

SUM, FINISH, APPLY = 1, 2, 4  # phases, one after the other
WHOLE = SUM | FINISH | APPLY  # or all in one, where a task has whole channels

CENTER, SCALE, SHIFT, SLOPE, OFFSET, SAMPLED = range(6)  # what is kept of a channel in a `Table`
KEPT = 8  # values that it has room for: a whole number of float64 in either type


class Channel(NamedTuple):
    """The elements (n * channels + channel) * length + i of a flat array, for n below `images` and i below `length`."""

    images: int
    channels: int
    length: int
    channel: int


class Runs(NamedTuple):
    """`number` runs of `length` neighbouring elements, the first from index `first` on, the others `pitch` apart."""

    first: int
    pitch: int
    number: int
    length: int


class Totals(NamedTuple):
    """Where two kinds of sums are added up, in float64: from values[first] and from values[second] on."""

    values: Any
    first: int
    second: int


class Table(NamedTuple):
    """What is kept of neighbouring channels: of the first from values[first] on, of each other one `pitch` later."""

    values: Any
    first: int
    pitch: int


class Stores(NamedTuple):
    """How an elementwise pass stores."""

    ahead: int  #: elements from where it stores to where the caches are told that it is going to; 0: they are not told
    streaming: bool  #: past the caches


class Parameters(NamedTuple):
    """What a norm has for each channel besides x, all (C,), and its numbers."""

    gamma: Any
    beta: Any
    running_mean: Any  #: empty: not wanted
    running_var: Any  #: empty: not wanted
    momentum: float
    eps: float
    rmax: float  #: how far batch renormalization goes, with dmax; 0: not at all
    dmax: float


class Gated(NamedTuple):
    """The gradient behind the activation: dy where the output is not <= floor, else 0. A floor of NaN lets all pass.

    The output is y where `by_output` says so, or computed anew from x in the very operations of the forward pass.
    """

    dy: Any
    x: Any
    y: Any
    floor: Any
    by_output: bool


class Gradients(NamedTuple):
    """What a backward pass writes. An empty dx or dresidual is not wanted."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dresidual: Any
