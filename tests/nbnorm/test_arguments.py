"""What every norm takes: layouts in memory, other libraries' arrays, `out`, overlapping memory; what it refuses."""

import doctest
import importlib
import re

import numpy as np
import pytest
from norms import each_norm, each_norm_and_shape

import nbnorm


def values(shape=(6, 5, 4, 3), dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def channels_last(x):
    """The same values, the channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[:] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "reversed": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.T.copy().T,
    "strided": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "channels_last": channels_last,
    "unaligned": unaligned,
    "read_only": read_only,
}


@each_norm
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_gives_the_same(norm, layout):
    x, dy, residual = values(), values(seed=1), values(seed=2)
    gamma, beta = (values(norm.parameters(x.shape), seed=seed) for seed in (0, 1))
    y, stats = norm.forward(x, gamma, beta, residual=residual, activation="relu")
    grads = norm.backward(dy, x, stats, gamma, beta, activation="relu", y=y)
    ours = norm.forward(
        layout(x), layout(gamma) if layout is read_only else gamma, beta, residual=layout(residual), activation="relu"
    )
    np.testing.assert_allclose(ours[0], y, atol=1e-6)
    back = norm.backward(layout(dy), layout(x), ours[1], gamma, beta, activation="relu", y=layout(y))
    for mine, expected in zip(back, grads, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)
    out = layout(np.full_like(x, np.nan))
    if layout is not read_only:
        result, _ = norm.forward(layout(x), gamma, beta, residual=residual, activation="relu", out=out)
        assert result is out
        np.testing.assert_allclose(out, y, atol=1e-6)
        assert norm.backward(dy, x, stats, gamma, beta, activation="relu", y=y, out=out).dx is out
        np.testing.assert_allclose(out, grads.dx, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="out: expected a writable array"):
            norm.forward(x, out=out)


@each_norm
def test_channels_last_results_are_channels_last(norm):
    x = channels_last(values())
    y, stats = norm.forward(x)
    assert y.strides == x.strides
    assert norm.backward(y, x, stats).dx.strides == x.strides


@each_norm
def test_out_may_be_an_input(norm):
    x, dy = values(), values(seed=1)
    y, stats = norm.forward(x, activation="relu")
    dx = norm.backward(dy, x, stats, activation="relu").dx
    for place in ("x", "dy"):
        inputs = {"x": x.copy(), "dy": dy.copy()}
        norm.backward(inputs["dy"], inputs["x"], stats, activation="relu", out=inputs[place])
        np.testing.assert_array_equal(inputs[place], dx)
    same = x.copy()
    assert norm.forward(same, activation="relu", out=same)[0] is same
    np.testing.assert_array_equal(same, y)
    out = np.full_like(dy, np.nan)
    gradient = dy.copy()  # dresidual in dy's memory, dx elsewhere
    y, stats = norm.forward(x, activation="relu", residual=dy)
    expected = norm.backward(dy, x, stats, activation="relu", y=y)
    grads = norm.backward(gradient, x, stats, activation="relu", y=y, out=(out, None, None, gradient))
    assert grads.dresidual is gradient
    np.testing.assert_array_equal(gradient, expected.dresidual)
    np.testing.assert_array_equal(out, expected.dx)


@each_norm
def test_overlapping_memory_is_safe(norm):
    memory = np.zeros((7, 5, 4, 3), np.float32)
    memory[:6] = values()
    expected, stats = norm.forward(memory[:6].copy())
    norm.forward(memory[:6], out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected)
    x, dy = values(), values(seed=1)
    y, stats = norm.forward(x, activation="relu", residual=dy)
    expected = norm.backward(dy, x, stats, activation="relu", y=y)
    other = x.copy()
    grads = norm.backward(dy, other, stats, activation="relu", y=y, out=(None, None, None, other))
    np.testing.assert_array_equal(other, expected.dresidual)
    np.testing.assert_array_equal(grads.dx, expected.dx)


@each_norm
def test_out_of_backward_is_an_array_or_four_parts(norm):
    x, dy = values(), values(seed=1)
    gamma = np.ones(norm.parameters(x.shape), np.float32)
    _, stats = norm.forward(x, gamma, gamma)
    expected = norm.backward(dy, x, stats, gamma, gamma)
    strided = np.zeros((5, 2), np.float32)
    grads = norm.backward(dy, x, stats, gamma, gamma, out=(None, strided[:, 0], np.empty(5, "f4"), None))
    for mine, theirs in zip(grads[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(strided[:, 0], expected.dgamma)
    with pytest.raises(ValueError, match="out: expected an array or a tuple"):
        norm.backward(dy, x, stats, out=(None, None))
    with pytest.raises(ValueError, match=r"out\.dresidual: expected None without y"):
        norm.backward(dy, x, stats, out=(None, None, None, dy.copy()))


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnlyDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@each_norm
@pytest.mark.parametrize("wrap", [OnlyArray, OnlyDLPack])
def test_objects_that_numpy_can_view(norm, wrap):
    x = values()
    y, _ = norm.forward(wrap(x))
    np.testing.assert_array_equal(y, norm.forward(x)[0])


@each_norm
def test_tensors_of_pytorch_share_their_memory(norm):
    torch = pytest.importorskip("torch")
    x, out = torch.randn(4, 3, 5), torch.zeros(4, 3, 5)
    y, _ = norm.forward(x, out=out)
    assert y is out
    assert torch.allclose(out, norm.torch(torch.nn.functional, x, None, None), atol=1e-5)
    for bad in (x.bfloat16(), torch.randn(4, 3, requires_grad=True)):
        with pytest.raises(TypeError, match="x: expected"):
            norm.forward(bad)


@each_norm
def test_no_values_of_a_channel_that_is_not_there(norm):
    y, stats = norm.forward(np.zeros((4, 0, 2)))
    assert y.shape == (4, 0, 2)
    assert norm.backward(y, y, stats).dx.shape == (4, 0, 2)


X = np.zeros((4, 64, 3), np.float32)


@each_norm
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gamma": np.ones(32, "f4")}, ValueError, r"gamma: expected shape \(64,\), got \(32,\)"),
        ({"beta": np.ones((64, 1), "f4")}, ValueError, r"beta: expected shape \(64,\), got \(64, 1\)"),
        ({"gamma": np.ones(64)}, TypeError, "gamma: expected dtype float32, got float64"),
        ({"residual": X[:2]}, ValueError, r"residual: expected shape \(4, 64, 3\), got \(2, 64, 3\)"),
        ({"activation": "gelu"}, ValueError, "activation: expected None or 'relu', got 'gelu'"),
        ({"eps": -1}, ValueError, "eps: expected a finite number >= 0, got -1"),
        ({"eps": float("nan")}, ValueError, "eps: expected"),
        ({"out": X[:2]}, ValueError, "out: expected shape"),
        ({"out": X.astype("f8")}, TypeError, "out: expected dtype float32"),
    ],
)
def test_errors_name_the_argument(norm, arguments, error, message):
    with pytest.raises(error, match=message):
        norm.forward(X, **arguments)


@each_norm
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(5), ValueError, r"x: expected shape \(N, C, \*spatial\), got \(5,\)"),
        (np.zeros((4, 5), "i2"), TypeError, "x: expected dtype float32 or float64, got int16"),
        (np.zeros((4, 5), int), TypeError, "x: expected dtype float32 or float64, got int64"),
        (np.zeros((4, 5), ">f4"), TypeError, "x: expected dtype float32 or float64"),
        (np.zeros((4, 5), complex), TypeError, "x: expected dtype float32 or float64"),
        ([[1.0, 2.0]], TypeError, "x: expected an array, got list"),
        (None, TypeError, "x: expected an array, got NoneType"),
    ],
)
def test_errors_of_x(norm, x, error, message):
    with pytest.raises(error, match=message):
        norm.forward(x)


@each_norm_and_shape("too_few")
def test_too_few_values_are_an_error(norm, shape):
    with pytest.raises(ValueError, match=re.escape(f"x: {norm.enough}, got shape {shape}")):
        norm.forward(np.zeros(shape))


@each_norm
def test_backward_errors(norm):
    x = values()
    _, stats = norm.forward(x)
    with pytest.raises(ValueError, match="dy: expected shape"):
        norm.backward(x[:2], x, stats)
    with pytest.raises(TypeError, match="stats: expected the"):
        norm.backward(x, x, None)
    with pytest.raises(ValueError, match=f"{norm.statistic}: expected shape"):
        norm.backward(x, x, stats._replace(mean=stats.mean[:2]))


def test_show_config_and_warmup(capsys):
    nbnorm.show_config()
    printed = capsys.readouterr().out
    for word in ("numba", "threads", "vectors", "cache"):
        assert word in printed
    with pytest.raises(TypeError, match="dtypes: expected float32 or float64"):
        nbnorm.warmup(("float16",))
    nbnorm.warmup("float32")
    assert "float32 ready" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module", ["batch_norm", "batch_norm.training", "batch_norm.inference", "batch_norm.gradients", "folding", "config"]
)
def test_the_examples_of_the_docstrings(module):
    failed, attempted = doctest.testmod(importlib.import_module(f"nbnorm.{module}"))
    assert attempted
    assert not failed
