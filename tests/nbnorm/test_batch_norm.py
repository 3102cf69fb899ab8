"""What batch norm alone has: running statistics, inference, the inverse, folding; and all of it against PyTorch."""

import numpy as np
import pytest
from norms import batch_norm

import nbnorm

SHAPES = [
    (4, 3, 5, 5), (8, 4), (256, 40), (64, 1000), (2, 3, 60, 60), (4, 16, 4, 4, 4), (3, 20, 7, 7), (2, 1, 1, 2),
    (16, 40, 14, 14), (1, 2, 20000), (5000, 6), (40, 33, 3), (6, 17, 1, 1), (500, 300),
]  # fmt: skip
ABSOLUTE = {"float32": 2e-6, "float64": 1e-12}


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


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


def test_relu_keeps_nan_in_inference():
    y = nbnorm.batch_norm_infer(
        np.array([[np.nan], [-1.0], [2.0]]), np.zeros(1), np.ones(1), eps=0.0, activation="relu"
    )
    np.testing.assert_array_equal(y[:, 0], [np.nan, 0.0, 2.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", batch_norm.numerics, ids=str)
def test_nan_and_infinity_reach_the_running_mean_of_their_channel_alone(shape, bad):
    x, channel = np.random.default_rng(0).standard_normal(shape).astype(np.float32), shape[1] // 2
    x[(shape[0] // 2, channel, *[-1] * (len(shape) - 2))] = bad
    running = np.zeros(shape[1], np.float32)
    nbnorm.batch_norm_forward(x, running_mean=running, activation="relu")
    assert not np.isfinite(running[channel])
    assert np.isfinite(np.delete(running, channel)).all()


def test_running_statistics_may_be_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    x, out, mean = torch.randn(4, 3, 5), torch.zeros(4, 3, 5), torch.zeros(3)
    y, _ = nbnorm.batch_norm_forward(x, running_mean=mean, momentum=1.0, out=out)
    assert y is out
    assert torch.allclose(mean, x.mean((0, 2)), atol=1e-6)
    assert torch.allclose(out, torch.nn.functional.batch_norm(x, None, None, training=True), atol=1e-5)
    for bad in (x.bfloat16(), torch.randn(4, 3, requires_grad=True)):
        with pytest.raises(TypeError, match="x: expected"):
            nbnorm.batch_norm_forward(bad)


def test_zero_size_axes():
    assert nbnorm.batch_norm_infer(np.zeros((0, 3, 2)), np.zeros(3), np.ones(3)).shape == (0, 3, 2)
    assert nbnorm.batch_norm_infer(np.zeros((2, 3, 0)), np.zeros(3), np.ones(3)).shape == (2, 3, 0)
    y, stats = nbnorm.batch_norm_forward(np.zeros((4, 0, 2)))
    assert y.shape == (4, 0, 2)
    assert stats.mean.shape == (0,)
    assert nbnorm.batch_norm_backward(y, y, stats).dx.shape == (4, 0, 2)


def test_folding_names_its_arguments():
    weight, ones = np.ones((4, 2)), np.ones(4)
    with pytest.raises(TypeError, match="running_var: expected an array, got NoneType"):
        nbnorm.fold_batch_norm(weight, None, ones, None)
    with pytest.raises(ValueError, match=r"bias: expected shape \(4,\), got \(2,\)"):
        nbnorm.fold_batch_norm(weight, np.ones(2), ones, ones)
    with pytest.raises(ValueError, match="weight: expected shape"):
        nbnorm.fold_batch_norm(ones, None, ones, ones)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"running_var": np.ones(64, "i4")}, TypeError, "running_var: expected dtype float32"),
        ({"running_mean": read_only(np.ones(64, "f4"))}, ValueError, "running_mean: expected a writable array"),
        ({"momentum": 2.0}, ValueError, "momentum: expected a finite number >= 0 and <= 1, got 2"),
        ({"momentum": None}, TypeError, "momentum: expected a number, got None"),
    ],
)
def test_errors_name_the_arguments_of_batch_norm(arguments, error, message):
    with pytest.raises(error, match=message):
        nbnorm.batch_norm_forward(np.zeros((4, 64, 3), np.float32), **arguments)
