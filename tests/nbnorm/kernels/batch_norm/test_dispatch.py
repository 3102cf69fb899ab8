"""Batch norm's kernels by themselves: what they write, what they compile for, and what their docstring says."""

import re

import numpy as np
import pytest
import reference_batch_norm as reference
from framed import framed, intact
from hypothesis import given, settings
from hypothesis import strategies as st
from norms import batch_norm

from nbnorm.jit.arrays import nothing
from nbnorm.kernels import batch_norm as kernels
from nbnorm.kernels.batch_norm import dispatch


@settings(max_examples=100, deadline=None)
@given(
    images=st.integers(1, 70),
    channels=st.integers(1, 70),
    length=st.one_of(st.just(1), st.integers(2, 70)),
    dtype=st.sampled_from(["float32", "float64"]),
    offset=st.integers(0, 17),
    by_output=st.booleans(),
    streaming=st.booleans(),
)
def test_outputs_are_written_whole_and_nothing_else(images, channels, length, dtype, offset, by_output, streaming):
    if images * length < 2:
        images = 2
    shape = (images, channels, length)
    rng = np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    ones, empty = np.ones(channels, dtype), nothing(dtype, 3)
    outputs = [framed(s, t, offset) for s, t in
               ((shape, dtype), (shape, dtype), (shape, dtype), (channels, dtype), (channels, dtype),
                (channels, "float64"), (channels, "float64"))]  # fmt: skip
    y, dx, dresidual, dgamma, dbeta, mean, inv_std = (inside for inside, _ in outputs)
    before = [part.copy() for part in (x, dy, residual, ones)]
    with batch_norm.stored_past_caches(streaming):
        kernels.forward(x, residual if by_output else empty, ones, ones, ones.copy(), ones.copy(), 0.1, 1e-5, True,
                        mean, inv_std, y)  # fmt: skip
        if by_output:
            kernels.backward(dy, x, y, mean, inv_std, ones, ones, True, True, dx, dgamma, dbeta, dresidual)
        else:
            kernels.backward(dy, x, empty, mean, inv_std, ones, ones, True, False, dx, dgamma, dbeta, empty)
            dresidual[...] = 0
    names = ("y", "dx", "dresidual", "dgamma", "dbeta", "mean", "inv_std")
    for (inside, memory), what in zip(outputs, names, strict=True):
        assert np.isfinite(inside).all(), what
        assert intact(memory, inside.size, offset), what
    for part, original in zip((x, dy, residual, ones), before, strict=True):
        np.testing.assert_array_equal(part, original)


@pytest.mark.parametrize("shape", [(5, 3, 4), (3, 20, 7), (9, 5, 1), (2, 2, 5000)])
def test_statistics_are_those_of_the_forward_pass(shape):
    x = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    channels, none = shape[1], nothing("float32", 3)
    results = []
    for alone in (True, False):
        gamma, beta, running_mean, running_var = (np.ones(channels, "float32") for _ in range(4))
        mean, inv_std = np.full((2, channels), np.nan)
        options = (x, gamma, beta, running_mean, running_var, 0.1, 1e-5)
        if alone:
            kernels.statistics(*options, mean, inv_std)
        else:
            kernels.forward(x, none, *options[1:], True, mean, inv_std, np.empty_like(x))
        results.append((mean, inv_std, running_mean, running_var))
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_numpy_version_of_the_docstring_is_true():
    """It is what a reader begins with."""
    block = re.search(r"In NumPy::\n\n(.*?)\n\nThe kernels", dispatch.__doc__, re.DOTALL).group(1)
    names = {"np": np}
    exec("\n".join(line[4:] for line in block.splitlines()), names)
    rng = np.random.default_rng(0)
    x, residual, dy = rng.standard_normal((3, 4, 3, 5))
    gamma, beta = rng.standard_normal((2, 3))
    y, mean, inv_std = names["forward"](x, residual, gamma, beta, 1e-5)
    expected = reference.forward(x, gamma, beta, 1e-5, True, residual)
    for mine, theirs in zip((y, mean.ravel(), inv_std.ravel()), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    grads = names["backward"](dy, x, y, mean, inv_std, gamma)
    for mine, theirs in zip(grads, reference.backward(dy, x, gamma, beta, 1e-5, True, y), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
