"""The forms of batch norm: of valid values alone, by ghosts, renormalized. Checks, and calls of their kernels."""

from typing import Any, NamedTuple

import numpy as np

from nbnorm.batch_norm.parts import (
    ACTIVATIONS,
    BatchNormGradients,
    BatchNormStats,
    RenormStats,
    expect_gradients_apart,
    expect_running_apart,
    parts_of,
    read_stats,
    scale_and_shift,
)  # fmt: skip
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import expect_integer, expect_number, expect_one_of, expect_shape, mismatch
from nbnorm.kernels.batch_norm import ghosts, masked, renorm
from nbnorm.layout import Copied, Layout, MovedVector, are_apart, as_array, channel_output, layout_of, output

__all__ = ["Form", "backward_of_form", "forward_of_form", "valid_of"]


class Form(NamedTuple):
    """The arguments of `batch_norm_forward` that say which values are normalized together; at most one is given."""

    lengths: Any
    mask: Any
    ghost_size: Any
    renorm: Any

    def check(self) -> None:
        """Raise ValueError for more than one."""
        if sum(value is not None for value in self) > 1:
            given = [name for name, value in self._asdict().items() if value is not None]
            raise ValueError(mismatch(", ".join(self._fields), "one of these at most", " and ".join(given)))


def forward_of_form(
    inputs: tuple[Any, Any], affine: tuple[Any, Any], running: tuple[Any, Any], rule: tuple[Any, Any],
    activation: Any, out: Any, form: Form,
) -> tuple[Any, BatchNormStats]:  # fmt: skip
    """`batch_norm_forward` of one of the forms; inputs = (x, residual), rule = (momentum, eps)."""
    form.check()
    x, residual = inputs
    array = as_array("x", x)
    layout = layout_of("x", array)
    expect_one_of("activation", activation, ACTIVATIONS)
    numbers = expect_number("momentum", rule[0], 0.0, 1.0), expect_number("eps", rule[1], 0.0)
    valid, size, limits = _chosen(layout, form)
    if limits is not None and (running[0] is None or running[1] is None):
        raise TypeError(mismatch("renorm", "running_mean and running_var beside it", "None for one of them"))
    scale_shift = scale_and_shift(layout, *affine)
    none = nothing(layout.dtype)
    moved = [none if each is None else layout.moved(name, each)
             for name, each in zip(("running_mean", "running_var"), running, strict=True)]  # fmt: skip
    added = nothing(layout.dtype, 3) if residual is None else layout.read("residual", residual)
    if not are_apart(running, (array, *affine, residual)):
        read = (("x", array), ("gamma", affine[0]), ("beta", affine[1]), ("residual", residual))
        expect_running_apart(running, read)
    y, flat_y, copied = output("out", layout, out, (*affine, *running), (x, residual))
    flat_x, channels, relu = layout.flat(array), layout.view[1], activation is not None
    moving = tuple(each.flat if isinstance(each, MovedVector) else each for each in moved)
    stats: BatchNormStats
    if size is not None:
        shape = ghosts.count(layout.view[0], size), channels
        stats = BatchNormStats(np.empty(shape), np.empty(shape))
        ghosts.forward(flat_x, added, scale_shift, moving, numbers, relu, size, stats, flat_y)  # type: ignore[arg-type]
    else:
        stats = BatchNormStats(np.empty(channels), np.empty(channels))
        if limits is not None:
            found = renorm.forward(flat_x, added, scale_shift, moving, numbers, limits, relu, stats, flat_y)  # type: ignore[arg-type]
            stats = RenormStats(*stats, *found)
        elif channels:
            masked.forward(flat_x, added, valid, scale_shift, moving, numbers, relu, stats, flat_y)  # type: ignore[arg-type]
    for each in (*moved, copied):
        if isinstance(each, (MovedVector, Copied)):
            each.done()
    return y, stats


def _chosen(layout: Layout, form: Form) -> tuple[masked.Valid | None, int | None, tuple[float, float] | None]:
    """Return what the kernels of each form are told, None for those that are not asked for."""
    if form.ghost_size is not None:
        return None, _ghost_rows(layout, form.ghost_size), None
    if form.renorm is not None or (form.lengths is None and form.mask is None):
        if layout.view[0] * layout.view[2] < 2:
            raise ValueError(mismatch("x", "at least 2 values per channel in training", f"shape {layout.shape}"))
        return None, None, _limits(form.renorm)
    valid = valid_of(layout, form.lengths, form.mask)
    if valid.number < 2:
        name = "lengths" if form.mask is None else "mask"
        got = f"{valid.number} in the batch of shape {layout.shape}"
        raise ValueError(mismatch(name, "at least 2 valid values per channel in training", got))
    return valid, None, None


def _ghost_rows(layout: Layout, ghost_size: Any) -> int:
    """Return the rows of the kernels' view that are a ghost."""
    size = expect_integer("ghost_size", ghost_size, 1)
    samples = layout.shape[0]
    each = layout.view[0] * layout.view[2] // max(samples, 1)
    if min(size, samples) * each < 2:
        got = f"ghosts of {min(size, samples)} of shape {layout.shape}"
        raise ValueError(mismatch("ghost_size", "at least 2 values per channel in each ghost", got))
    return size * layout.view[0] // samples


def _limits(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(mismatch("renorm", "a tuple (rmax, dmax)", repr(given)))
    return expect_number("renorm: rmax", given[0], 1.0), expect_number("renorm: dmax", given[1], 0.0)


def valid_of(layout: Layout, lengths: Any, mask: Any) -> masked.Valid:
    """Return which positions of a batch are valid, by a mask (N, *spatial) or by lengths (N,)."""
    shape, (rows, _, length) = layout.shape, layout.view
    if lengths is not None and mask is not None:
        raise ValueError(mismatch("lengths, mask", "one of the two", "both"))
    if lengths is None:
        given = as_array("mask", mask)
        if given.dtype != np.bool_:
            raise TypeError(mismatch("mask", "dtype bool", given.dtype))
        expect_shape("mask", given.shape, (shape[0], *shape[2:]))
        return masked.valid_by_mask(given.reshape(rows, length))
    if len(shape) != 3:
        raise ValueError(mismatch("lengths", "an x of shape (N, C, T); other shapes take a mask", shape))
    counts = as_array("lengths", lengths)
    if counts.dtype.kind not in "iu":
        raise TypeError(mismatch("lengths", "integers", counts.dtype))
    expect_shape("lengths", counts.shape, shape[:1])
    if counts.size and not (counts.min() >= 0 and counts.max() <= shape[2]):
        raise ValueError(mismatch("lengths", f"numbers from 0 to {shape[2]}", f"{counts.min()} to {counts.max()}"))
    counts = counts.astype(np.int64)
    if (rows, length) == (shape[0], shape[2]):
        return masked.valid_by_lengths(counts, length)
    return masked.valid_by_mask((np.arange(shape[2]) < counts[:, None]).reshape(rows, length))


def backward_of_form(
    inputs: tuple[Any, Any, Any], stats: Any, affine: tuple[Any, Any], running: tuple[Any, Any, Any],
    activation: Any, out: Any, form: Form,
) -> BatchNormGradients:  # fmt: skip
    """`batch_norm_backward` of one of the forms; inputs = (dy, x, y)."""
    form.check()
    dy, x, y = inputs
    array = as_array("x", x)
    layout = layout_of("x", array)
    expect_one_of("activation", activation, ACTIVATIONS)
    if running[0] is not None or running[1] is not None:
        given = "; of running statistics: batch_norm_backward without a form, and dy set to 0 where nothing is valid"
        raise TypeError(mismatch("running_mean, running_var", f"None beside a form{given}", "arrays"))
    valid, size, _ = _chosen(layout, form)
    wide = layout
    if size is not None:
        shape: Any = ghosts.count(layout.view[0], size), layout.view[1]
        wide = layout._replace(channels=shape)
    given_stats = read_stats(wide, stats, "pass what the forward pass of this form returned")
    upstream, scale_shift, none = layout.read("dy", dy), scale_and_shift(layout, *affine), nothing(layout.dtype, 3)
    result = none if y is None else layout.read("y", y)
    out_dx, out_dgamma, out_dbeta, out_dresidual = parts_of(out, y)
    small = (*given_stats, *affine)
    dx, flat_dx, copied_dx = output("out.dx", layout, out_dx, (*small, y, out_dresidual), (dy, x))
    dresidual, flat_dresidual, copied_dresidual = None, none, None
    if y is not None:
        target = output("out.dresidual", layout, out_dresidual, (*small, x, y), (dy,))
        dresidual, flat_dresidual, copied_dresidual = target
    dgamma, flat_dgamma, moved_dgamma = channel_output("out.dgamma", layout, out_dgamma)
    dbeta, flat_dbeta, moved_dbeta = channel_output("out.dbeta", layout, out_dbeta)
    expect_gradients_apart(
        out_dgamma, out_dbeta,
        (("dy", dy), ("x", array), ("y", y), ("gamma", affine[0]), ("beta", affine[1]), ("out.dx", dx),
         ("out.dresidual", dresidual)),
    )  # fmt: skip
    gradients = flat_dx, flat_dgamma, flat_dbeta, flat_dresidual
    flat_x, relu, added = layout.flat(array), activation is not None, y is not None
    if size is not None:
        ghosts.backward(upstream, flat_x, result, given_stats, scale_shift, relu, added, size, gradients)
    elif isinstance(stats, RenormStats):
        constants = stats.r, stats.d
        renorm.backward(upstream, flat_x, result, given_stats, scale_shift, constants, relu, added, gradients)
    elif layout.view[1]:
        assert valid is not None
        masked.backward(upstream, flat_x, result, valid, given_stats, scale_shift, relu, added, gradients)
    for each in (copied_dx, copied_dresidual, moved_dgamma, moved_dbeta):
        if each is not None:
            each.done()
    dgamma = None if affine[0] is None and out_dgamma is None else dgamma
    dbeta = None if affine[1] is None and out_dbeta is None else dbeta
    return BatchNormGradients(dx, dgamma, dbeta, dresidual)
