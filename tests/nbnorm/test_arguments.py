"""What nbnorm takes: layouts in memory, other libraries' arrays, `out`, overlapping memory; and what it refuses."""

import doctest
import importlib

import numpy as np
import pytest

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


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_gives_the_same(layout):
    x, dy, residual = values(), values(seed=1), values(seed=2)
    gamma, beta = values((5,)), values((5,), seed=1)
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, residual=residual, activation="relu")
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation="relu", y=y)
    ours = nbnorm.batch_norm_forward(
        layout(x), layout(gamma) if layout is read_only else gamma, beta, residual=layout(residual), activation="relu"
    )
    np.testing.assert_allclose(ours[0], y, atol=1e-6)
    back = nbnorm.batch_norm_backward(layout(dy), layout(x), ours[1], gamma, beta, activation="relu", y=layout(y))
    for mine, expected in zip(back, grads, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)
    out = layout(np.full_like(x, np.nan))
    if layout is not read_only:
        result, _ = nbnorm.batch_norm_forward(layout(x), gamma, beta, residual=residual, activation="relu", out=out)
        assert result is out
        np.testing.assert_allclose(out, y, atol=1e-6)
        assert nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation="relu", y=y, out=out).dx is out
        np.testing.assert_allclose(out, grads.dx, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="out: expected a writable array"):
            nbnorm.batch_norm_forward(x, out=out)


def test_channels_last_results_are_channels_last():
    x = channels_last(values())
    y, stats = nbnorm.batch_norm_forward(x)
    assert y.strides == x.strides
    assert nbnorm.batch_norm_backward(y, x, stats).dx.strides == x.strides


def test_out_may_be_an_input():
    x, dy = values(), values(seed=1)
    y, stats = nbnorm.batch_norm_forward(x, activation="relu")
    dx = nbnorm.batch_norm_backward(dy, x, stats, activation="relu").dx
    for place in ("x", "dy"):
        inputs = {"x": x.copy(), "dy": dy.copy()}
        nbnorm.batch_norm_backward(inputs["dy"], inputs["x"], stats, activation="relu", out=inputs[place])
        np.testing.assert_array_equal(inputs[place], dx)
    same = x.copy()
    assert nbnorm.batch_norm_forward(same, activation="relu", out=same)[0] is same
    np.testing.assert_array_equal(same, y)
    out = np.full_like(dy, np.nan)
    gradient = dy.copy()  # dresidual in dy's memory, dx elsewhere
    y, stats = nbnorm.batch_norm_forward(x, activation="relu", residual=dy)
    expected = nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=y)
    grads = nbnorm.batch_norm_backward(gradient, x, stats, activation="relu", y=y, out=(out, None, None, gradient))
    assert grads.dresidual is gradient
    np.testing.assert_array_equal(gradient, expected.dresidual)
    np.testing.assert_array_equal(out, expected.dx)


def test_overlapping_memory_is_safe():
    memory = np.zeros((7, 5, 4, 3), np.float32)
    memory[:6] = values()
    expected, stats = nbnorm.batch_norm_forward(memory[:6].copy())
    nbnorm.batch_norm_forward(memory[:6], out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected)
    x, dy = values(), values(seed=1)
    y, stats = nbnorm.batch_norm_forward(x, activation="relu", residual=dy)
    expected = nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=y)
    other = x.copy()
    grads = nbnorm.batch_norm_backward(dy, other, stats, activation="relu", y=y, out=(None, None, None, other))
    np.testing.assert_array_equal(other, expected.dresidual)
    np.testing.assert_array_equal(grads.dx, expected.dx)


def test_out_of_backward_is_an_array_or_four_parts():
    x, dy = values(), values(seed=1)
    gamma = np.ones(5, np.float32)
    _, stats = nbnorm.batch_norm_forward(x, gamma, gamma)
    expected = nbnorm.batch_norm_backward(dy, x, stats, gamma, gamma)
    strided = np.zeros((5, 2), np.float32)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, gamma, out=(None, strided[:, 0], np.empty(5, "f4"), None))
    for mine, theirs in zip(grads[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(strided[:, 0], expected.dgamma)
    with pytest.raises(ValueError, match="out: expected an array or a tuple"):
        nbnorm.batch_norm_backward(dy, x, stats, out=(None, None))
    with pytest.raises(ValueError, match=r"out\.dresidual: expected None without y"):
        nbnorm.batch_norm_backward(dy, x, stats, out=(None, None, None, dy.copy()))


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


@pytest.mark.parametrize("wrap", [OnlyArray, OnlyDLPack])
def test_objects_that_numpy_can_view(wrap):
    x = values()
    y, _ = nbnorm.batch_norm_forward(wrap(x))
    np.testing.assert_array_equal(y, nbnorm.batch_norm_forward(x)[0])


def test_tensors_of_pytorch_share_their_memory():
    torch = pytest.importorskip("torch")
    x, out, mean = torch.randn(4, 3, 5), torch.zeros(4, 3, 5), torch.zeros(3)
    y, _ = nbnorm.batch_norm_forward(x, running_mean=mean, momentum=1.0, out=out)
    assert y is out
    assert torch.allclose(mean, x.mean((0, 2)), atol=1e-6)
    assert torch.allclose(out, torch.nn.functional.batch_norm(x, None, None, training=True), atol=1e-5)
    for bad in (x.bfloat16(), x.half(), torch.randn(4, 3, requires_grad=True)):
        with pytest.raises(TypeError, match="x: expected"):
            nbnorm.batch_norm_forward(bad)


X = np.zeros((4, 64, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gamma": np.ones(32, "f4")}, ValueError, r"gamma: expected shape \(64,\), got \(32,\)"),
        ({"beta": np.ones((64, 1), "f4")}, ValueError, r"beta: expected shape \(64,\), got \(64, 1\)"),
        ({"gamma": np.ones(64)}, TypeError, "gamma: expected dtype float32, got float64"),
        ({"running_var": np.ones(64, "i4")}, TypeError, "running_var: expected dtype float32"),
        ({"running_mean": read_only(np.ones(64, "f4"))}, ValueError, "running_mean: expected a writable array"),
        ({"residual": X[:2]}, ValueError, r"residual: expected shape \(4, 64, 3\), got \(2, 64, 3\)"),
        ({"activation": "gelu"}, ValueError, "activation: expected None or 'relu', got 'gelu'"),
        ({"momentum": 2.0}, ValueError, "momentum: expected a finite number >= 0 and <= 1, got 2"),
        ({"momentum": None}, TypeError, "momentum: expected a number, got None"),
        ({"eps": -1}, ValueError, "eps: expected a finite number >= 0, got -1"),
        ({"eps": float("nan")}, ValueError, "eps: expected"),
        ({"out": X[:2]}, ValueError, "out: expected shape"),
        ({"out": X.astype("f8")}, TypeError, "out: expected dtype float32"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        nbnorm.batch_norm_forward(X, **arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(5), ValueError, r"x: expected shape \(N, C, \*spatial\), got \(5,\)"),
        (np.zeros((1, 5)), ValueError, r"x: expected at least 2 values per channel in training, got shape \(1, 5\)"),
        (np.zeros((0, 5, 3)), ValueError, "x: expected at least 2 values per channel"),
        (np.zeros((4, 5), "f2"), TypeError, "x: expected dtype float32 or float64, got float16"),
        (np.zeros((4, 5), int), TypeError, "x: expected dtype float32 or float64, got int64"),
        (np.zeros((4, 5), ">f4"), TypeError, "x: expected dtype float32 or float64"),
        (np.zeros((4, 5), complex), TypeError, "x: expected dtype float32 or float64"),
        ([[1.0, 2.0]], TypeError, "x: expected an array, got list"),
        (None, TypeError, "x: expected an array, got NoneType"),
    ],
)
def test_errors_of_x(x, error, message):
    with pytest.raises(error, match=message):
        nbnorm.batch_norm_forward(x)


def test_backward_errors():
    x = values()
    _, stats = nbnorm.batch_norm_forward(x)
    with pytest.raises(ValueError, match="dy: expected shape"):
        nbnorm.batch_norm_backward(x[:2], x, stats)
    with pytest.raises(TypeError, match="stats: expected the"):
        nbnorm.batch_norm_backward(x, x, None)
    with pytest.raises(ValueError, match=r"stats\.mean: expected shape"):
        nbnorm.batch_norm_backward(x, x, (stats.mean[:2], stats.inv_std))


def test_zero_size_axes():
    assert nbnorm.batch_norm_infer(np.zeros((0, 3, 2)), np.zeros(3), np.ones(3)).shape == (0, 3, 2)
    assert nbnorm.batch_norm_infer(np.zeros((2, 3, 0)), np.zeros(3), np.ones(3)).shape == (2, 3, 0)
    y, stats = nbnorm.batch_norm_forward(np.zeros((4, 0, 2)))
    assert y.shape == (4, 0, 2)
    assert stats.mean.shape == (0,)
    assert nbnorm.batch_norm_backward(y, y, stats).dx.shape == (4, 0, 2)


def test_show_config_and_warmup(capsys):
    nbnorm.show_config()
    printed = capsys.readouterr().out
    for word in ("numba", "threads", "vectors", "cache"):
        assert word in printed
    with pytest.raises(TypeError, match="dtypes: expected float32 or float64"):
        nbnorm.warmup(("float16",))
    nbnorm.warmup("float32")
    assert "float32 ready" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["batch_norm", "folding", "config"])
def test_the_examples_of_the_docstrings(module):
    failed, attempted = doctest.testmod(importlib.import_module(f"nbnorm.{module}"))
    assert attempted
    assert not failed


def test_folding_names_its_arguments():
    weight, ones = np.ones((4, 2)), np.ones(4)
    with pytest.raises(TypeError, match="running_var: expected an array, got NoneType"):
        nbnorm.fold_batch_norm(weight, None, ones, None)
    with pytest.raises(ValueError, match=r"bias: expected shape \(4,\), got \(2,\)"):
        nbnorm.fold_batch_norm(weight, np.ones(2), ones, ones)
    with pytest.raises(ValueError, match="weight: expected shape"):
        nbnorm.fold_batch_norm(ones, None, ones, ones)
