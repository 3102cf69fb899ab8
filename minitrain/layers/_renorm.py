"""The limits of batch renormalization."""

from __future__ import annotations

from typing import Any, NamedTuple

from nbnorm.jit.checks import expect_integer, expect_number, mismatch

__all__ = ["Renorm", "renorm_of"]


class Renorm(NamedTuple):
    """How far batch renormalization may take a batch's statistics to the running ones: r and d of Ioffe 2017.

    The first `start` batches are normalized as in batch norm, r = 1 and d = 0, until the running statistics are worth
    something; over the next `ramp` ones the limits grow to these, linearly. `BatchNorm(renorm=Renorm())`.

    Examples
    --------
    >>> Renorm(rmax=3.0, dmax=5.0, start=100, ramp=200).limits(200)
    (2.0, 2.5)
    """

    rmax: float = 3.0  #: r lies between 1 / rmax and rmax
    dmax: float = 5.0  #: d lies between -dmax and dmax
    start: int = 0  #: batches before the ramp
    ramp: int = 1000  #: batches until the limits are reached; 0: at once

    def limits(self, batches: int) -> tuple[float, float]:
        """Return rmax and dmax for the batch after so many."""
        share = min(max(batches - self.start, 0) / self.ramp, 1.0) if self.ramp else float(batches >= self.start)
        return 1.0 + share * (self.rmax - 1.0), share * self.dmax


def renorm_of(value: Any) -> Renorm | None:
    """Return None, or the limits that a layer is given, checked; a tuple is as good as a `Renorm`."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 4):
        raise TypeError(mismatch("renorm", "None or Renorm(rmax, dmax)", repr(value)))
    rmax, dmax, *batches = value
    return Renorm(
        expect_number("renorm: rmax", rmax, 1.0),
        expect_number("renorm: dmax", dmax, 0.0),
        *(expect_integer(f"renorm: {name}", each, 0) for name, each in zip(("start", "ramp"), batches, strict=False)),
    )
