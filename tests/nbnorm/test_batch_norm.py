"""The public functions of nbnorm against PyTorch and against their float64 twins."""

import numpy as np
import pytest
import reference_batch_norm as reference
from hypothesis import given, settings
from hypothesis import strategies as st

import nbnorm
from nbnorm.kernels import batch_norm as kernels

SHAPES = [
    (4, 3, 5, 5), (8, 4), (256, 40), (64, 1000), (2, 3, 60, 60), (4, 16, 4, 4, 4), (3, 20, 7, 7), (2, 1, 1, 2),
    (16, 40, 14, 14), (1, 2, 20000), (5000, 6), (40, 33, 3), (6, 17, 1, 1), (500, 300),
]  # fmt: skip
ABSOLUTE = {"float32": 2e-6, "float64": 1e-12}


def data(shape, dtype, seed=0):
    """x, gamma, beta, running_mean, running_var, dy, residual"""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    parts = (
        rng.standard_normal(shape) * 2 + 1, 1 + 0.2 * rng.standard_normal(channels), rng.standard_normal(channels),
        rng.standard_normal(channels), 1 + rng.random(channels), rng.standard_normal(shape), rng.standard_normal(shape),
    )  # fmt: skip
    return [part.astype(dtype) for part in parts]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_backward_and_inference_agree_with_pytorch(shape, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, _, beta, mean, var, dy, residual = data(shape, dtype)
    gamma = np.ones_like(beta)
    ours_mean, ours_var = mean.copy(), var.copy()
    theirs = [torch.from_numpy(part.copy()) for part in (x, gamma, beta, mean, var, dy, residual)]
    tx, tgamma, tbeta, tmean, tvar, tdy, tresidual = theirs
    for tensor in (tx, tgamma, tbeta, tresidual):
        tensor.requires_grad_()

    y, stats = nbnorm.batch_norm_forward(
        x, gamma, beta, ours_mean, ours_var, activation="relu", residual=residual, momentum=0.3
    )
    ty = functional.relu(functional.batch_norm(tx, tmean, tvar, tgamma, tbeta, True, 0.3) + tresidual)
    tolerance = ABSOLUTE[dtype] * 2  # the residual rounds, too
    np.testing.assert_allclose(y, ty.detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours_mean, tmean, rtol=ABSOLUTE[dtype], atol=ABSOLUTE[dtype])
    np.testing.assert_allclose(ours_var, tvar, rtol=ABSOLUTE[dtype], atol=ABSOLUTE[dtype])

    ty.backward(tdy)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation="relu", y=y)
    clear = np.abs(y - ty.detach().numpy()) < 1  # both cut off or both not
    assert clear.all()
    size = max(1, float(tgamma.grad.abs().max()))
    np.testing.assert_allclose(grads.dgamma, tgamma.grad, atol=20 * ABSOLUTE[dtype] * size)
    np.testing.assert_allclose(grads.dbeta, tbeta.grad, atol=20 * ABSOLUTE[dtype] * size)
    np.testing.assert_allclose(grads.dresidual, tresidual.grad)
    np.testing.assert_allclose(grads.dx, tx.grad, atol=4 * ABSOLUTE[dtype] * max(1, float(tx.grad.abs().max())))

    y = nbnorm.batch_norm_infer(x, mean, var, gamma, beta, activation="relu")
    ty = functional.relu(functional.batch_norm(tx, *map(torch.from_numpy, (mean, var)), tgamma, tbeta)).detach()
    np.testing.assert_allclose(y, ty, rtol=ABSOLUTE[dtype], atol=ABSOLUTE[dtype] * 2)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=5).filter(lambda s: s[0] * int(np.prod(s[2:])) > 1),
    dtype=st.sampled_from(["float32", "float64"]),
    relu=st.booleans(),
    added=st.booleans(),
    given_gamma=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_reference(shape, dtype, relu, added, given_gamma, seed):
    x, gamma, beta, _, _, dy, residual = data(shape, dtype, seed)
    activation = "relu" if relu else None
    residual = residual if added else None
    y, stats = nbnorm.batch_norm_forward(
        x,
        gamma if given_gamma else None,
        beta if given_gamma else None,
        activation=activation,
        residual=residual,
        eps=0.1,
    )
    if not given_gamma:
        gamma, beta = np.ones_like(gamma), np.zeros_like(beta)
    expected, mean, inv_std = reference.forward(x, gamma, beta, 0.1, relu, residual)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, expected, atol=tolerance)
    np.testing.assert_allclose(stats.mean, mean, atol=tolerance)
    np.testing.assert_allclose(stats.inv_std, inv_std, rtol=tolerance)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation=activation, y=y if added else None)
    clear = (np.abs(expected) > 1e-4) | (expected == 0) if added else np.abs(expected) >= 0
    if relu and not added:  # values on the edge of the ReLU may fall on either side
        raw = reference.forward(x, gamma, beta, 0.1)[0]
        clear = np.abs(raw) > 1e-4
    if clear.all():
        dx, dgamma, dbeta, dresidual = reference.backward(dy, x, gamma, beta, 0.1, relu, y if added else None)
        np.testing.assert_allclose(grads.dx, dx, atol=tolerance * 4)
        np.testing.assert_allclose(grads.dgamma, dgamma, atol=tolerance * 40)
        np.testing.assert_allclose(grads.dbeta, dbeta, atol=tolerance * 40)
        if added:
            np.testing.assert_array_equal(grads.dresidual, dresidual.astype(dtype))
        else:
            assert grads.dresidual is None


def test_the_worked_example():
    y, stats = nbnorm.batch_norm_forward(np.array([[1.0], [2.0]]), eps=0.0)
    assert stats.mean[0] == 1.5
    assert stats.inv_std[0] ** -2 == 0.25
    assert y.tolist() == [[-1.0], [1.0]]
    y, stats = nbnorm.batch_norm_forward(np.array([[1.0, 2.0], [3.0, 4.0]]), eps=0.0)
    assert y.tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    assert stats.mean.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_inverse_gives_x_back(dtype):
    x, gamma, beta, *_ = data((6, 5, 4, 3), dtype)
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(nbnorm.batch_norm_inverse(y, stats, gamma, beta), x, atol=tolerance)
    assert nbnorm.batch_norm_inverse(y, stats, gamma, beta, out=y) is y
    np.testing.assert_allclose(y, x, atol=tolerance)
    with pytest.raises(ValueError, match="gamma: expected values other than zero"):
        nbnorm.batch_norm_inverse(y, stats, np.zeros_like(gamma), beta)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2, 2)])
def test_folding_gives_the_output_of_the_two_layers(shape):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal(shape), rng.standard_normal(5)
    mean, var, gamma, beta = rng.standard_normal(5), 1 + rng.random(5), rng.standard_normal(5), rng.standard_normal(5)
    x = rng.standard_normal((4, *shape[1:]))
    flat = x.reshape(4, -1)
    for b, g in ((bias, gamma), (None, None)):
        folded, shift = nbnorm.fold_batch_norm(weight, b, mean, var, g, beta)
        z = flat @ weight.reshape(5, -1).T + (0 if b is None else b)
        expected = nbnorm.batch_norm_infer(z, mean, var, g, beta)
        np.testing.assert_allclose(flat @ folded.reshape(5, -1).T + shift, expected, atol=1e-13)
        assert folded.shape == weight.shape


def test_running_statistics_move_separately_and_are_optional():
    x, *_ = data((8, 4, 3), "float32")
    mean, var = np.zeros(4, "f4"), np.ones(4, "f4")
    nbnorm.batch_norm_forward(x, running_mean=mean, momentum=1.0)
    np.testing.assert_allclose(mean, x.mean((0, 2)), rtol=1e-6)
    strided = np.ones(8, "f4")[::2]
    nbnorm.batch_norm_forward(x, running_var=strided, momentum=0.5)
    np.testing.assert_allclose(strided, 0.5 + 0.5 * x.var((0, 2), ddof=1), rtol=1e-6)
    nbnorm.batch_norm_forward(x, running_mean=mean, running_var=var, momentum=0.0)
    assert (var == 1).all()


def test_parts_that_do_not_apply_are_none():
    x, gamma, beta, *_, dy, _ = data((4, 3, 2), "float32")
    _, stats = nbnorm.batch_norm_forward(x)
    grads = nbnorm.batch_norm_backward(dy, x, stats)
    assert grads.dgamma is None
    assert grads.dbeta is None
    assert grads.dresidual is None
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta)
    assert grads.dgamma.dtype == np.float32


@pytest.mark.parametrize("shape", [(5, 3, 4), (3, 20, 7), (9, 5, 1), (2, 2, 5000)])
def test_statistics_are_those_of_the_forward_pass(shape):
    x = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    channels, none = shape[1], np.empty((0, 0, 0), "float32")
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
