"""A batch norm folded into the layer before it, and a batch norm undone."""

from typing import Any

import numpy as np

from nbnorm.batch_norm import BatchNormStats, read_stats, scale_and_shift
from nbnorm.jit.arrays import Array, nothing
from nbnorm.jit.checks import expect_number, mismatch
from nbnorm.kernels import batch_norm as kernels
from nbnorm.kernels.batch_norm.fold import fold
from nbnorm.layout import as_array, layout_of, output

__all__ = ["batch_norm_inverse", "fold_batch_norm"]


def fold_batch_norm(
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    eps: float = 1e-5,
) -> tuple[Array, Array]:
    """Fold an inference batch norm into the convolution or dense layer before it.

    ``w = weight * s`` and ``b = (bias - running_mean) * s + beta`` with ``s = gamma / sqrt(running_var + eps)`` give a
    layer whose output is that of the two together (Jacob et al., "Quantization and Training of Neural Networks", 2018,
    section 3.2).

    Parameters
    ----------
    weight : array (C, ...), float32 or float64
        Output channels first: (out, in, kh, kw) or (out, in).
    bias : array (C,) or None
    running_mean, running_var, gamma, beta : array (C,)
        As in `batch_norm_infer`.

    Returns
    -------
    w, b : new arrays of weight's shape and of shape (C,), of weight's dtype; computed in float64.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> w, b = nbnorm.fold_batch_norm(np.array([[2.0]]), None, np.array([1.0]), np.array([4.0]), eps=0.0)
    >>> w, b
    (array([[1.]]), array([-0.5]))
    """
    array = as_array("weight", weight)
    if array.ndim < 2:
        raise ValueError(mismatch("weight", "shape (out, in, ...)", array.shape))
    layout = layout_of("weight", array[None].reshape(1, array.shape[0], -1))
    eps = expect_number("eps", eps, 0.0)
    mean, var = layout.vector("running_mean", running_mean), layout.vector("running_var", running_var)
    gain, offset = scale_and_shift(layout, gamma, beta)
    given_bias = nothing(layout.dtype) if bias is None else layout.vector("bias", bias)
    scale, shift = np.empty(array.shape[0]), np.empty(array.shape[0])
    fold.serial(given_bias, gain, offset, mean, var, eps, scale, shift)
    folded = array * scale.reshape(-1, *[1] * (array.ndim - 1))
    return folded.astype(array.dtype), shift.astype(array.dtype)


BY_GIVEN_STATISTICS = (
    "to undo batch_norm_infer pass BatchNormStats(mean, inv_std), float64, with inv_std = 1 / sqrt(running_var + eps)"
)


def batch_norm_inverse(y: Any, stats: BatchNormStats, gamma: Any = None, beta: Any = None, *, out: Any = None) -> Any:
    """Undo `batch_norm_forward` (without activation and residual): ``x = (y - beta) / (gamma * inv_std) + mean``.

    Raises ValueError where a gamma is zero: the channel's values are gone.

    Examples
    --------
    >>> import numpy as np, nbnorm
    >>> y, stats = nbnorm.batch_norm_forward(np.array([[1.0], [2.0]]))
    >>> nbnorm.batch_norm_inverse(y, stats)
    array([[1.],
           [2.]])
    """
    array = as_array("y", y)
    layout = layout_of("y", array)
    scale, shift = scale_and_shift(layout, gamma, beta)
    mean, inv_std = read_stats(layout, stats, BY_GIVEN_STATISTICS)
    if not scale.all():
        raise ValueError(mismatch("gamma", "values other than zero", scale))
    x, flat_x, copied = output("out", layout, out, (gamma, beta, *stats), (y,))
    inverse = (1.0 / (scale * inv_std)).astype(layout.dtype)
    kernels.infer(
        layout.flat(array), nothing(layout.dtype, 3), inverse, mean.astype(layout.dtype), shift,
        np.ones_like(inverse), 0.0, False, flat_x,
    )  # fmt: skip
    if copied is not None:
        copied.done()
    return x
