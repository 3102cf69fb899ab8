"""What `norm` of the nets may be: a place, a kind, a layer, or a function that makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from minitrain.layer import Layer, Shape
from minitrain.layers import BatchNorm, FilterResponseNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

__all__ = ["KINDS", "Norm", "Norms", "Place"]

Place = Literal["before", "after"]
Kind = str | Layer | Callable[..., Layer]
Norm = Kind | tuple[Kind, Place] | None

# Wu & He 2018, section 3: 32 groups are the default for nets of 64 and more channels. Groups of fewer than 8 channels
# lose there (table 3), and small nets have few channels: they get fewer groups.
MOST_GROUPS = 32
LEAST_CHANNELS = 8


def _group(channels: Shape) -> Layer:
    """Return a group norm of at most 32 groups, each of at least 8 channels."""
    count = channels[0]
    divisors = (groups for groups in range(min(MOST_GROUPS, count // LEAST_CHANNELS), 1, -1) if count % groups == 0)
    return GroupNorm(next(divisors, 1))


# By name: what normalizes values of this shape (without the batch), or None where the kind needs a plane and has none.
KINDS: dict[str, Callable[[Shape], Layer | None]] = {
    "batch": lambda shape: BatchNorm(),
    "layer": lambda shape: GroupNorm(1) if len(shape) > 1 else LayerNorm(),
    "group": _group,
    "instance": lambda shape: InstanceNorm(affine=True) if len(shape) > 1 else None,
    "rms": lambda shape: RMSNorm((1,)) if len(shape) > 1 else RMSNorm(),
    "filter_response": lambda shape: FilterResponseNorm() if len(shape) > 1 else None,
}


class Norms:
    """The norms of a net: where they are, and which layer each of them is.

    Parameters
    ----------
    norm
        As the nets take it, see `models.mlp`.
    place : "before" or "after"
        Where they are if `norm` does not say it.

    Attributes
    ----------
    given
        The `norm` it was made of.
    place : "before", "after" or None
        Of the activations; None is a net without norms.
    """

    def __init__(self, norm: Norm, place: Place) -> None:
        self.given = norm
        kind: Kind | None = None if isinstance(norm, tuple) else norm
        if isinstance(norm, tuple):
            if len(norm) != 2 or norm[1] not in ("before", "after"):
                raise ValueError(f'norm: expected (kind, "before") or (kind, "after"), got {norm!r}')
            kind, place = norm
        elif norm == "before":
            kind, place = "batch", "before"
        elif norm == "after":
            kind, place = "batch", "after"
        self.place: Place | None = None if kind is None else place
        self._make = self._maker(kind, norm)

    @staticmethod
    def _maker(kind: Kind | None, norm: Norm) -> Callable[[Shape], Layer | None]:
        if kind is None:
            return lambda shape: None
        if isinstance(kind, Layer):
            return lambda shape: kind
        if isinstance(kind, str) and kind in KINDS:
            return KINDS[kind]
        if callable(kind):
            return lambda shape: _expect_layer(kind())
        error = ValueError if isinstance(kind, str) else TypeError
        raise error(
            f"norm: expected 'before', 'after' or None, got {norm!r}; or for another norm than batch norm one of "
            f"{', '.join(KINDS)}, a layer, or a function without arguments that returns one"
        )

    def layer(self, name: str, shape: Shape) -> Layer | None:
        """Return the norm of values of this shape, without the batch; None where there is none.

        `name` has "bn" where the prefix of the layer belongs: "stage1_bn2" is "stage1_gn2" of a group norm.
        """
        made = self._make(shape)
        if made is None:
            return None
        head, _, tail = name.rpartition("bn")
        return replace(made, name=f"{head}{made.prefix or 'norm'}{tail}")

    def leaves_bias(self, shape: Shape) -> bool:
        """Return whether a layer of this output keeps its bias, which a norm right behind it would make superfluous.

        Batch norm takes a constant of a channel away, and the others have a shift of their own; but RMSNorm.
        """
        if self.place != "before":
            return True
        made = self._make(shape)
        return made is None or isinstance(made, RMSNorm)


def _expect_layer(made: object) -> Layer:
    if not isinstance(made, Layer):
        raise TypeError(f"norm: expected a function that returns a layer, it returned {made!r}")
    return made
