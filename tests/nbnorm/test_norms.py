"""Every norm against its float64 twin."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from norms import each_norm


def data(norm, shape, dtype, seed=0):
    """x, gamma, beta, dy, residual"""
    rng, own = np.random.default_rng(seed), norm.parameters(tuple(shape))
    parts = (
        rng.standard_normal(shape) * 2 + 1, 1 + 0.2 * rng.standard_normal(own), rng.standard_normal(own),
        rng.standard_normal(shape), rng.standard_normal(shape),
    )  # fmt: skip
    return [part.astype(dtype) for part in parts]


@each_norm
@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=5).filter(lambda s: s[0] * int(np.prod(s[2:])) > 1),
    dtype=st.sampled_from(["float32", "float64"]),
    relu=st.booleans(),
    added=st.booleans(),
    given_gamma=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_reference(norm, shape, dtype, relu, added, given_gamma, seed):
    x, gamma, beta, dy, residual = data(norm, shape, dtype, seed)
    activation = "relu" if relu else None
    residual = residual if added else None
    y, stats = norm.forward(
        x,
        gamma if given_gamma else None,
        beta if given_gamma else None,
        activation=activation,
        residual=residual,
        eps=0.1,
    )
    if not given_gamma:
        gamma, beta = np.ones_like(gamma), np.zeros_like(beta)
    expected, mean, inv_std = norm.reference.forward(x, gamma, beta, 0.1, relu, residual)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, expected, atol=tolerance)
    np.testing.assert_allclose(stats.mean, mean, atol=tolerance)
    np.testing.assert_allclose(stats.inv_std, inv_std, rtol=tolerance)
    grads = norm.backward(dy, x, stats, gamma, beta, activation=activation, y=y if added else None)
    clear = (np.abs(expected) > 1e-4) | (expected == 0) if added else np.abs(expected) >= 0
    if relu and not added:  # values on the edge of the ReLU may fall on either side
        raw = norm.reference.forward(x, gamma, beta, 0.1)[0]
        clear = np.abs(raw) > 1e-4
    if clear.all():
        dx, dgamma, dbeta, dresidual = norm.reference.backward(dy, x, gamma, beta, 0.1, relu, y if added else None)
        np.testing.assert_allclose(grads.dx, dx, atol=tolerance * 4)
        np.testing.assert_allclose(grads.dgamma, dgamma, atol=tolerance * 40)
        np.testing.assert_allclose(grads.dbeta, dbeta, atol=tolerance * 40)
        if added:
            np.testing.assert_array_equal(grads.dresidual, dresidual.astype(dtype))
        else:
            assert grads.dresidual is None


@each_norm
def test_parts_that_do_not_apply_are_none(norm):
    x, gamma, beta, dy, _ = data(norm, (4, 3, 2), "float32")
    _, stats = norm.forward(x)
    grads = norm.backward(dy, x, stats)
    assert grads.dgamma is None
    assert grads.dbeta is None
    assert grads.dresidual is None
    grads = norm.backward(dy, x, stats, gamma, beta)
    assert grads.dgamma.dtype == np.float32
