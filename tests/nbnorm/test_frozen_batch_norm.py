"""The gradients of batch norm by running statistics: against PyTorch and the twin, and what only they promise."""

import numpy as np
import pytest
import reference_frozen_batch_norm as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from norms import batch_norm

import nbnorm

SHAPES = [
    (4, 3, 5, 5), (8, 4), (1, 3), (1, 5, 1, 1), (256, 40), (64, 1000), (2, 3, 60, 60), (4, 16, 4, 4, 4), (3, 20, 7, 7),
    (16, 40, 14, 14), (1, 2, 20000), (5000, 6), (40, 33, 3), (500, 300),
]  # fmt: skip
ABSOLUTE = {"float32": 2e-6, "float64": 1e-12}


def data(shape, dtype="float32", seed=0):
    """x, dy, residual, gamma, beta, mean, var"""
    rng = np.random.default_rng(seed)
    big = [rng.standard_normal(shape) * 2 + 1, rng.standard_normal(shape), rng.standard_normal(shape)]
    own = [rng.standard_normal(shape[1]) for _ in range(3)]
    return [part.astype(dtype) for part in (*big, *own, 0.1 + rng.random(shape[1]))]


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_pytorch(shape, dtype, activation, added):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, dy, residual, gamma, beta, mean, var = data(shape, dtype)
    tx, tresidual, tgamma, tbeta = (torch.tensor(part, requires_grad=True) for part in (x, residual, gamma, beta))
    ty = functional.batch_norm(tx, torch.tensor(mean), torch.tensor(var), tgamma, tbeta, training=False, eps=1e-3)
    ty = ty + tresidual if added else ty
    ty = functional.relu(ty) if activation else ty
    ty.backward(torch.tensor(dy))
    y = nbnorm.batch_norm_infer(
        x, mean, var, gamma, beta, eps=1e-3, activation=activation, residual=residual if added else None
    )
    grads = nbnorm.batch_norm_backward(
        dy, x, None, gamma, beta, running_mean=mean, running_var=var, eps=1e-3, activation=activation,
        y=y if added else None,
    )  # fmt: skip
    for mine, theirs in ((grads.dx, tx.grad), (grads.dgamma, tgamma.grad), (grads.dbeta, tbeta.grad)):
        size = max(1, float(theirs.abs().max()))
        np.testing.assert_allclose(mine, theirs, atol=10 * ABSOLUTE[dtype] * size)
    if added:
        np.testing.assert_array_equal(grads.dresidual, tresidual.grad)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    dtype=st.sampled_from(["float32", "float64"]),
    relu=st.booleans(),
    added=st.booleans(),
    wanted=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_reference_whatever_is_wanted(shape, dtype, relu, added, wanted, seed):
    x, dy, residual, gamma, beta, mean, var = data(shape, dtype, seed)
    gamma, beta = gamma if wanted[0] else None, beta if wanted[1] else None
    activation = "relu" if relu else None
    y = nbnorm.batch_norm_infer(
        x, mean, var, gamma, beta, eps=0.1, activation=activation, residual=residual if added else None
    )
    grads = nbnorm.batch_norm_backward(
        dy, x, None, gamma, beta, running_mean=mean, running_var=var, eps=0.1, activation=activation,
        y=y if added else None,
    )  # fmt: skip
    own = (np.ones_like(mean) if gamma is None else gamma, np.zeros_like(mean) if beta is None else beta)
    dx, dgamma, dbeta, dresidual = reference.differentiate(dy, x, mean, var, *own, 0.1, relu, y)
    tolerance = ABSOLUTE[dtype] * 40
    np.testing.assert_allclose(grads.dx, dx, atol=tolerance)
    for mine, expected, is_wanted in ((grads.dgamma, dgamma, wanted[0]), (grads.dbeta, dbeta, wanted[1])):
        assert (mine is not None) == is_wanted
        if is_wanted:
            np.testing.assert_allclose(mine, expected, atol=tolerance)
    if added:
        np.testing.assert_array_equal(grads.dresidual, dresidual.astype(dtype))


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", batch_norm.processes, ids=str)
def test_what_is_not_wanted_changes_no_bit(shape, activation):
    x, dy, residual, gamma, beta, mean, var = data(shape)
    one, zero = np.ones_like(gamma), np.zeros_like(beta)

    def gradients(gamma, beta, dy, y):
        return nbnorm.batch_norm_backward(
            dy, x, None, gamma, beta, running_mean=mean, running_var=var, activation=activation, y=y
        )

    for gradient in (dy, np.where(dy > 2, np.float32(1e38), dy)):  # whose sums overflow in float32
        for y in (None, nbnorm.batch_norm_infer(x, mean, var, activation=activation, residual=residual)):
            whole = gradients(one, zero, gradient, y)
            for affine in ((None, zero), (one, None), (None, None)):
                grads = gradients(*affine, gradient, y)
                for mine, expected in zip(grads, whole, strict=True):
                    assert mine is None or mine.tobytes() == expected.tobytes()


def test_an_infinity_passes_like_any_gradient():
    """dx does not depend on x but for the ReLU: neither an infinity nor a NaN in x reaches it."""
    for shape in ((4, 3, 40), (50, 20)):
        x, dy, _, gamma, beta, mean, var = data(shape)
        expected = nbnorm.batch_norm_backward(dy, x, None, gamma, beta, running_mean=mean, running_var=var)
        x[1, 2], x[2, 0] = np.inf, np.nan
        grads = nbnorm.batch_norm_backward(dy, x, None, gamma, beta, running_mean=mean, running_var=var)
        np.testing.assert_array_equal(grads.dx, expected.dx)
        np.testing.assert_array_equal(grads.dbeta, expected.dbeta)
        assert np.isnan(grads.dgamma[0])
        assert not np.isfinite(grads.dgamma[2])
        np.testing.assert_array_equal(grads.dgamma[1], expected.dgamma[1])


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0), (4, 0, 2), (0, 3)])
def test_zero_size_axes(shape):
    x, own = np.zeros(shape), np.ones(shape[1])
    grads = nbnorm.batch_norm_backward(x, x, None, own, own, running_mean=own, running_var=own)
    assert grads.dx.shape == shape
    np.testing.assert_array_equal(grads.dgamma, np.zeros(shape[1]))
    np.testing.assert_array_equal(grads.dbeta, np.zeros(shape[1]))


def test_running_statistics_are_only_read():
    x, dy, _, gamma, beta, mean, var = data((6, 5, 4))
    kept = mean.copy(), var.copy()
    nbnorm.batch_norm_backward(dy, x, None, gamma, beta, running_mean=mean, running_var=var)
    np.testing.assert_array_equal(mean, kept[0])
    np.testing.assert_array_equal(var, kept[1])


X, OWN = np.ones((4, 5, 2), np.float32), np.ones(5, np.float32)


@pytest.mark.parametrize(
    "stats",
    [
        (OWN, OWN),
        [OWN, OWN],
        (OWN.astype("f8"), OWN.astype("f8")),
        OWN,
        {"running_mean": OWN, "running_var": OWN},
        None,
        (OWN, OWN, 1e-5),
    ],
    ids=str,
)
def test_running_statistics_in_the_place_of_stats_are_an_error(stats):
    remedy = "leave stats out and pass running_mean=, running_var= and eps="
    with pytest.raises(TypeError, match=f"stats: expected the BatchNormStats .*{remedy}"):
        nbnorm.batch_norm_backward(X, X, stats, OWN, OWN)
    with pytest.raises(TypeError, match=r"stats: expected the BatchNormStats .*batch_norm_infer"):
        nbnorm.batch_norm_inverse(X, stats, OWN, OWN)


def test_errors_name_the_argument():
    _, stats = nbnorm.batch_norm_forward(X)
    given = {"running_mean": OWN, "running_var": OWN}
    with pytest.raises(TypeError, match="stats: expected None with running_mean and running_var, got BatchNormStats"):
        nbnorm.batch_norm_backward(X, X, stats, OWN, OWN, **given)
    for arguments, error, message in (
        ({"running_var": None}, TypeError, "running_var: expected an array, got NoneType"),
        ({"running_mean": None}, TypeError, "running_mean: expected an array, got NoneType"),
        ({"running_mean": OWN[:3]}, ValueError, r"running_mean: expected shape \(5,\), got \(3,\)"),
        ({"running_var": OWN.astype("f8")}, TypeError, "running_var: expected dtype float32, got float64"),
        ({"eps": -1.0}, ValueError, "eps: expected a finite number >= 0"),
        ({"eps": "1"}, TypeError, "eps: expected a number"),
    ):
        with pytest.raises(error, match=message):
            nbnorm.batch_norm_backward(X, X, None, OWN, OWN, **{**given, **arguments})
