"""What layer, RMS, group, instance and filter response norm have in common: checks, output arrays, the call itself."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_number, expect_one_of, mismatch
from nbnorm.kernels import rows as kernels
from nbnorm.layout import expect_apart
from nbnorm.row_layout import RowLayout
from nbnorm.row_outputs import output, vector_output

__all__ = [
    "Given",
    "NormGradients",
    "backward",
    "expect_stats",
    "forward",
    "gradients_of",
    "number_of",
    "parts_of",
    "read_stats",
]

ACTIVATIONS = (None, "relu")


class NormGradients(NamedTuple):
    """What the backward pass of a norm returns; a part that does not apply is None."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dresidual: Any


class Given(NamedTuple):
    """The parameters of a call, each None where it is not given, and what its norm is."""

    gamma: Any = None
    beta: Any = None
    tau: Any = None
    activation: str | None = None
    centered: bool = True

    def checked(self, layout: RowLayout) -> tuple[Array, Array, Array]:
        """gamma, beta and tau as the kernels take them."""
        if self.activation is not None:
            expect_one_of("activation", self.activation, ACTIVATIONS)
        return (
            layout.filled(1.0) if self.gamma is None else layout.vector("gamma", self.gamma),
            layout.filled(0.0) if self.beta is None else layout.vector("beta", self.beta),
            nothing(layout.dtype) if self.tau is None else layout.vector("tau", self.tau),
        )


def number_of(eps: Any) -> float:
    """`eps`, which is added to a variance."""
    return eps if type(eps) is float and 0.0 <= eps < np.inf else expect_number("eps", eps, 0.0)


def forward(
    layout: RowLayout, array: Array, given: Given, eps: float, residual: Any = None, out: Any = None
) -> tuple[Any, Array, Array]:
    """y, mean (of a norm that is not centered an empty array) and inv_std; out may be x or residual itself."""
    parameters = given.checked(layout)
    added = nothing(layout.dtype, 3) if residual is None else layout.read("residual", residual)
    y, flat_y, copied = output("out", layout, out, given[:3], (array, residual))
    number = layout.view[0]
    mean, inv_std = np.empty(number if given.centered else 0), np.empty(number)
    kernels.forward(
        layout.flat(array), added, parameters, layout.groups, eps, given.centered, given.activation is not None,
        mean, inv_std, flat_y,
    )  # fmt: skip
    if array.size == 0:  # rows without elements: what a mean of nothing is
        mean.fill(np.nan)
        inv_std.fill(np.nan)
    if copied is not None:
        copied.done()
    return y, layout.statistic(mean) if given.centered else mean, layout.statistic(inv_std)


def expect_stats(stats: Any, kind: type, made_by: str) -> None:
    """Raise TypeError unless these are what the forward pass returned."""
    if not isinstance(stats, kind):
        raise TypeError(mismatch("stats", f"the {kind.__name__} that {made_by} returned", type(stats).__name__))


def read_stats(layout: RowLayout, stats: Any, kind: type, made_by: str) -> tuple[Array, Array]:
    """Mean and inverse standard deviation as the kernels take them: the two fields, or the one, of a `kind`.

    A pair of arrays would do, but so would any other pair then: wrong numbers without a word.
    """
    expect_stats(stats, kind, made_by)
    values: dict[str, Any] = stats._asdict()  # type: ignore[attr-defined]
    parts = [layout.read_statistic(f"stats.{name}", value) for name, value in values.items()]
    return (parts[0], parts[1]) if len(parts) == 2 else (nothing(np.float64), parts[0])


def backward(
    layout: RowLayout, dy: Any, array: Array, stats: tuple[Array, Array], given: Given, y: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any, Any]:
    """dx, dgamma, dbeta, dtau, dresidual; those that do not apply are None. `out` has all five."""
    gamma, beta, tau, activation, centered = given
    parameters = given.checked(layout)
    upstream = layout.read("dy", dy)
    no_array = nothing(layout.dtype, 3)
    result = no_array if y is None else layout.read("y", y)
    out_dx, out_dgamma, out_dbeta, out_dtau, out_dresidual = out
    small = (*stats, gamma, beta, tau)
    if out_dresidual is not None:
        if y is None:
            raise ValueError(mismatch("out.dresidual", "None without y", type(out_dresidual).__name__))
        expect_apart("out.dresidual", out_dresidual, (("out.dx", out_dx),))
    dx, flat_dx, copied_dx = output("out.dx", layout, out_dx, (*small, y), (dy, array))
    dresidual, flat_dresidual, copied_dresidual = None, no_array, None
    if y is not None:
        dresidual, flat_dresidual, copied_dresidual = output(
            "out.dresidual", layout, out_dresidual, (*small, array, y), (dy,)
        )
    dgamma, flat_dgamma, moved_dgamma = vector_output("out.dgamma", layout, out_dgamma)
    dbeta, flat_dbeta, moved_dbeta = vector_output("out.dbeta", layout, out_dbeta)
    dtau, flat_dtau, moved_dtau = None, nothing(layout.dtype), None
    if tau is not None:
        dtau, flat_dtau, moved_dtau = vector_output("out.dtau", layout, out_dtau)
    _expect_gradients_apart(
        (("out.dgamma", out_dgamma), ("out.dbeta", out_dbeta), ("out.dtau", out_dtau)),
        (("dy", dy), ("x", array), ("y", y), ("gamma", gamma), ("beta", beta), ("tau", tau), ("out.dx", dx),
         ("out.dresidual", dresidual), ("stats", stats[0]), ("stats", stats[1])),
    )  # fmt: skip
    room = np.empty(kernels.backward_room(layout.view, layout.groups, layout.dtype.itemsize, tau is not None))
    kernels.backward(
        upstream, layout.flat(array), result, stats, parameters, layout.groups, centered, activation is not None,
        y is not None, room, (flat_dx, flat_dgamma, flat_dbeta, flat_dtau, flat_dresidual),
    )  # fmt: skip
    for part in (copied_dresidual, copied_dx, moved_dgamma, moved_dbeta, moved_dtau):
        if part is not None:
            part.done()
    wanted_dgamma = gamma is not None or out_dgamma is not None
    wanted_dbeta = beta is not None or out_dbeta is not None
    return dx, dgamma if wanted_dgamma else None, dbeta if wanted_dbeta else None, dtau, dresidual


def _expect_gradients_apart(written: tuple[tuple[str, Any], ...], read: tuple[tuple[str, Any], ...]) -> None:
    for k, (name, array) in enumerate(written):
        if array is not None:
            expect_apart(name, array, (*read, *written[k + 1 :]))


def gradients_of(
    layout: RowLayout, dy: Any, array: Array, stats: tuple[Array, Array], given: Given, y: Any, out: Any
) -> NormGradients:
    """`backward` of a norm without a floor of its own: `out` is dx alone, or a tuple (dx, dgamma, dbeta, dresidual)."""
    dx, dgamma, dbeta, dresidual = parts_of(out, "(dx, dgamma, dbeta, dresidual)")
    dx, dgamma, dbeta, _, dresidual = backward(layout, dy, array, stats, given, y, (dx, dgamma, dbeta, None, dresidual))
    return NormGradients(dx, dgamma, dbeta, dresidual)


def parts_of(out: Any, names: str) -> tuple[Any, Any, Any, Any]:
    """The caller's arrays for four results; None for those that are to be made."""
    if not isinstance(out, tuple):
        return out, None, None, None
    if len(out) != 4:
        raise ValueError(mismatch("out", f"an array or a tuple {names}", f"{len(out)} parts"))
    return out
