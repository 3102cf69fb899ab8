"""The training forward pass of batch normalization: checks, output arrays, choice of kernel."""

from typing import Any

import numpy as np

from nbnorm import halves
from nbnorm.batch_norm.forms import Form, forward_of_form
from nbnorm.batch_norm.parts import ACTIVATIONS, BatchNormStats, expect_running_apart, scale_and_shift
from nbnorm.jit.arrays import nothing
from nbnorm.jit.checks import HalfPrecision, expect_number, expect_one_of, mismatch
from nbnorm.kernels import batch_norm as kernels
from nbnorm.layout import Copied, MovedVector, are_apart, as_array, layout_of, ndarray, output

__all__ = ["batch_norm_forward"]

empty, new_tuple = np.empty, tuple.__new__  # a named tuple's own constructor takes twice as long


def batch_norm_forward(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
    lengths: Any = None,
    mask: Any = None,
    ghost_size: int | None = None,
    renorm: tuple[float, float] | None = None,
) -> tuple[Any, BatchNormStats]:
    """Normalize each channel of a training batch by the batch's own mean and variance.

    ``y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where `mean` and the biased `var` are
    taken over all axes but the second.

    Parameters
    ----------
    x : array (N, C, *spatial), float32 or float64, or float16 or ml_dtypes.bfloat16 where no form is asked for
        Any object that NumPy can view without a copy. Arrays whose channels are the last axis in memory are computed
        as they are and so are their results; other non-contiguous arrays are copied.
    gamma, beta : array (C,) of x's dtype, or of float32 where x has half precision, optional
        Scale and shift; ones and zeros by default.
    running_mean, running_var : array (C,) of x's dtype, optional
        Updated in place: ``running = (1 - momentum) * running + momentum * batch``, with the unbiased variance.
    momentum : float
        Weight of the new batch, from 0 to 1. For a cumulative average pass 1 / (number of batches so far).
    eps : float
        Added to the variance.
    activation : None or "relu"
        Applied last. A NaN stays a NaN.
    residual : array like x, optional
        Added before the activation.
    out : array like x, optional
        Written into and returned. It may be `x` or `residual` itself.
    mask : array (N, *spatial) of bool, optional
        Where values count, in all channels alike. Statistics are those of the valid values, and y is 0 elsewhere,
        whatever x and the residual hold there, NaN too.
    lengths : array (N,) of integers, optional
        The same for x (N, C, T): the first ``lengths[n]`` of its T positions are valid.
    ghost_size : int, optional
        Samples that are normalized together, by their own statistics (Hoffer et al., "Train longer, generalize
        better", 2017). The last ghost takes what is left over. The running statistics move for each ghost in turn.
    renorm : tuple (rmax, dmax), optional
        Batch renormalization (Ioffe 2017): ``x_hat = (x - mean) * inv_std * r + d`` with
        ``r = clip(std / running_std, 1 / rmax, rmax)`` and ``d = clip((mean - running_mean) / running_std, -dmax,
        dmax)``, by the running statistics before they move, ``std = sqrt(var + eps)``. (1, 0) is batch normalization.

    Returns
    -------
    y : array like x
    stats : BatchNormStats
        Mean and inverse standard deviation, float64; (ghosts, C) with `ghost_size`. Those of `renorm` have r and d,
        too.

    Raises
    ------
    TypeError
        A dtype other than float32 and float64, or arrays of different dtypes.
    ValueError
        Shapes that do not fit, fewer than two (valid) values per channel, an unknown activation, numbers out of range,
        more than one of mask, lengths, ghost_size and renorm.

    Notes
    -----
    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    2015. Sums run over deviations from a shift near the mean (Chan, Golub and LeVeque, "Algorithms for Computing the
    Sample Variance", 1983) in blocks of fixed length, so that results do not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.batch_norm_forward(np.array([[1.0, 3.0], [2.0, 4.0]]), eps=0.0)
    >>> y
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> stats.mean
    array([1.5, 3.5])
    """
    if lengths is not None or mask is not None or ghost_size is not None or renorm is not None:
        return forward_of_form(
            (x, residual), (gamma, beta), (running_mean, running_var), (momentum, eps), activation, out,
            Form(lengths, mask, ghost_size, renorm),
        )  # fmt: skip
    array = x if type(x) is ndarray else as_array("x", x)
    try:
        layout = layout_of("x", array)
    except HalfPrecision:
        vectors = {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
        read = (("x", array), ("gamma", gamma), ("beta", beta), ("residual", residual))
        expect_running_apart((running_mean, running_var), read)
        settings = {"momentum": momentum, "eps": eps, "activation": activation}
        y, found = halves.forward_by_channels(batch_norm_forward, array, vectors, residual, out, settings)
        return y, BatchNormStats(*halves.joined(found))
    view, dtype = layout.view, layout.dtype
    if view[0] * view[2] < 2:
        raise ValueError(mismatch("x", "at least 2 values per channel in training", f"shape {layout.shape}"))
    if activation is not None:
        expect_one_of("activation", activation, ACTIVATIONS)
    if not (type(momentum) is type(eps) is float and 0.0 <= momentum <= 1.0 and eps >= 0.0):
        momentum, eps = expect_number("momentum", momentum, 0.0, 1.0), expect_number("eps", eps, 0.0)
    scale, shift = scale_and_shift(layout, gamma, beta)
    means = nothing(dtype) if running_mean is None else layout.moved("running_mean", running_mean)
    variances = nothing(dtype) if running_var is None else layout.moved("running_var", running_var)
    added = nothing(dtype, 3) if residual is None else layout.read("residual", residual)
    moves = running_mean is not None or running_var is not None
    if moves and not are_apart((running_mean, running_var), (array, gamma, beta, residual)):
        read = (("x", array), ("gamma", gamma), ("beta", beta), ("residual", residual))
        expect_running_apart((running_mean, running_var), read)
    y, flat_y, copied = output("out", layout, out, (gamma, beta, running_mean, running_var), (x, residual))
    mean, inv_std = empty(view[1]), empty(view[1])
    kernels.forward(
        array.reshape(view) if layout.direct else layout.flat(array), added, scale, shift,
        means if type(means) is ndarray else means.flat,
        variances if type(variances) is ndarray else variances.flat,
        momentum, eps, activation is not None, mean, inv_std, flat_y,
    )  # fmt: skip
    for part in (means, variances, copied):
        if isinstance(part, (MovedVector, Copied)):
            part.done()
    return y, new_tuple(BatchNormStats, (mean, inv_std))
