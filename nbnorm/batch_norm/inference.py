"""Batch normalization by given statistics: checks, output arrays, the kernel."""

from typing import Any

from nbnorm import halves
from nbnorm.batch_norm.forms import valid_of
from nbnorm.batch_norm.parts import ACTIVATIONS, scale_and_shift
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import HalfPrecision, expect_number, expect_one_of
from nbnorm.kernels import batch_norm as kernels
from nbnorm.kernels.batch_norm import masked
from nbnorm.layout import as_array, layout_of, ndarray, output

__all__ = ["batch_norm_infer"]


def batch_norm_infer(
    x: Any,
    running_mean: Any,
    running_var: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
    lengths: Any = None,
    mask: Any = None,
) -> Any:
    """Normalize each channel by given statistics, as a trained net does.

    ``y = activation(gamma * (x - running_mean) / sqrt(running_var + eps) + beta + residual)``; arguments and errors
    are those of `batch_norm_forward`, the running statistics are only read, and any number of values will do. With a
    mask or lengths y is 0 where nothing is valid.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> nbnorm.batch_norm_infer(np.array([[3.0], [5.0]]), np.array([3.0]), np.array([4.0]), eps=0.0)
    array([[0.],
           [1.]])
    """
    array = x if type(x) is ndarray else as_array("x", x)
    try:
        layout = layout_of("x", array)
    except HalfPrecision:
        if not lengths is mask is None:
            raise
        vectors = {"running_mean": running_mean, "running_var": running_var, "gamma": gamma, "beta": beta}
        settings = {"eps": eps, "activation": activation}
        return halves.forward_by_channels(batch_norm_infer, array, vectors, residual, out, settings)[0]
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    if not (type(eps) is float and eps >= 0.0):
        eps = expect_number("eps", eps, 0.0)
    scale, shift = scale_and_shift(layout, gamma, beta)
    mean, var = layout.vector("running_mean", running_mean), layout.vector("running_var", running_var)
    added = nothing(layout.dtype, 3) if residual is None else layout.read("residual", residual)
    y, flat_y, copied = output("out", layout, out, (gamma, beta, running_mean, running_var), (x, residual))
    flat_x = array.reshape(layout.view) if layout.direct else layout.flat(array)
    valid = None if lengths is mask is None else valid_of(layout, lengths, mask)
    kernels.infer(flat_x, added, scale, shift, mean, var, eps, activation is not None, flat_y)
    if valid is not None:
        masked.clear(flat_y, valid)
    if copied is not None:
        copied.done()
    return y
