"""What the norms of rows take and refuse: layouts in memory, other libraries' arrays, `out`, overlapping memory."""

import doctest
import importlib
import re

import numpy as np
import pytest
from framed import framed, intact
from row_norms import NORMS, draw, each, each_and_shape, each_that_fuses
from signatures import recorded

import nbnorm


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "reversed": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.T.copy().T,
    "first two swapped": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "strided": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "channels_last": channels_last,
    "unaligned": unaligned,
    "read_only": read_only,
}
SHAPE = (6, 4, 5, 3)


@each
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_gives_the_same(norm, layout):
    x, dy, residual = draw(SHAPE)
    gamma, beta, tau = norm.parameters(SHAPE, "float32")
    added = {"residual": residual, "activation": "relu"} if norm.fuses else {}
    y, stats = norm.forward(x, gamma, beta, tau, **added)
    back = {"y": y, "activation": "relu"} if norm.fuses else {}
    grads = norm.backward(dy, x, stats, gamma, beta, tau, **back)
    if norm.fuses:
        added["residual"], back["y"] = layout(residual), layout(y)
    given = [layout(part) if part is not None and part.ndim > 1 else part for part in (gamma, beta, tau)]
    ours, more = norm.forward(layout(x), *given, **added)
    np.testing.assert_allclose(ours, y, atol=2e-6)
    for mine, expected in zip(more, stats, strict=True):
        assert mine.shape == expected.shape
        np.testing.assert_allclose(mine, expected, rtol=1e-5)
    for mine, expected in zip(norm.backward(layout(dy), layout(x), more, *given, **back), grads, strict=True):
        if expected is not None:
            np.testing.assert_allclose(mine, expected, atol=2e-5)
    out = layout(np.full_like(x, np.nan))
    if layout is read_only:
        with pytest.raises(ValueError, match="out: expected a writable array"):
            norm.forward(x, gamma, beta, tau, out=out)
        return
    assert norm.forward(layout(x), gamma, beta, tau, out=out, **added)[0] is out
    np.testing.assert_allclose(out, y, atol=2e-6)
    assert norm.backward(dy, x, stats, gamma, beta, tau, out=out, **back).dx is out
    np.testing.assert_allclose(out, grads.dx, atol=2e-5)


@each
def test_results_lie_in_memory_as_x_does(norm):
    x, dy, _ = draw(SHAPE)
    for layout in (channels_last, LAYOUTS["first two swapped"], np.array):
        given = layout(x)
        y, stats = norm.forward(given, *norm.parameters(SHAPE, "float32"))
        assert y.strides == given.strides
        assert norm.backward(dy, given, stats, *norm.parameters(SHAPE, "float32")).dx.strides == given.strides


@each
def test_out_may_be_an_input(norm):
    x, dy, residual = draw(SHAPE)
    parameters = norm.parameters(SHAPE, "float32")
    y, stats = norm.forward(x, *parameters)
    dx = norm.backward(dy, x, stats, *parameters).dx
    for name in ("x", "dy"):
        inputs = {"x": x.copy(), "dy": dy.copy()}
        norm.backward(inputs["dy"], inputs["x"], stats, *parameters, out=inputs[name])
        np.testing.assert_array_equal(inputs[name], dx)
    same = x.copy()
    assert norm.forward(same, *parameters, out=same)[0] is same
    np.testing.assert_array_equal(same, y)
    if norm.fuses:
        y, stats = norm.forward(x, *parameters, activation="relu", residual=residual)
        same = residual.copy()
        norm.forward(x, *parameters, activation="relu", residual=same, out=same)
        np.testing.assert_array_equal(same, y)
        expected = norm.backward(dy, x, stats, *parameters, activation="relu", y=y)
        gradient, out = dy.copy(), np.full_like(dy, np.nan)
        parts = (out, None, None, gradient)
        grads = norm.backward(gradient, x, stats, *parameters, activation="relu", y=y, out=parts)
        assert grads.dresidual is gradient
        np.testing.assert_array_equal(gradient, expected.dresidual)
        np.testing.assert_array_equal(out, expected.dx)


@each
def test_overlapping_memory_is_safe(norm):
    memory = np.zeros((7, *SHAPE[1:]), np.float32)
    memory[:6], dy, _ = draw(SHAPE)
    x, parameters = memory[:6].copy(), norm.parameters(SHAPE, "float32")
    expected, stats = norm.forward(x, *parameters)
    norm.forward(memory[:6], *parameters, out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected)
    memory[:6] = x
    grads = norm.backward(dy, memory[:6], stats, *parameters, out=memory[1:])
    np.testing.assert_array_equal(grads.dx, norm.backward(dy, x, stats, *parameters).dx)
    large = x.copy()  # gamma lies in what is written
    inside = large.reshape(-1)[3 : 3 + parameters[0].size].reshape(parameters[0].shape)
    gamma = inside.copy()
    expected, _ = norm.forward(x, gamma, *parameters[1:])
    norm.forward(x, inside, *parameters[1:], out=large)
    np.testing.assert_array_equal(large, expected)


@each
@pytest.mark.parametrize("other", ["out.dbeta", "x", "dy", "gamma", "stats", "out.dx"])
def test_gradients_of_parameters_have_memory_of_their_own(norm, other):
    x, dy, _ = draw(SHAPE, "float64")
    gamma, beta, tau = norm.parameters(SHAPE, "float64")
    _, stats = norm.forward(x, gamma, beta, tau)
    own, dx, dbeta = gamma.shape, np.empty_like(x), np.empty_like(gamma)
    places = {"out.dbeta": dbeta, "x": x, "dy": dy, "gamma": gamma, "stats": stats[-1], "out.dx": dx}
    if places[other].size < gamma.size:
        pytest.skip("gamma is larger")
    dgamma = places[other].reshape(-1)[: gamma.size].reshape(own)
    with pytest.raises(ValueError, match=r"out\.dgamma: expected an array with memory of its own, got memory of"):
        norm.backward(dy, x, stats, gamma, beta, tau, out=(dx, dgamma, dbeta, None))


@each_that_fuses
def test_the_gradient_of_the_residual_has_memory_of_its_own(norm):
    x, dy, residual = draw(SHAPE)
    y, stats = norm.forward(x, None, None, residual=residual)
    same = np.empty_like(x)
    with pytest.raises(ValueError, match=r"out\.dresidual: expected an array with memory of its own"):
        norm.backward(dy, x, stats, None, None, y=y, out=(same, None, None, same))
    with pytest.raises(ValueError, match=r"out\.dresidual: expected None without y"):
        norm.backward(dy, x, stats, None, None, out=(None, None, None, same))


@each
def test_parts_of_out(norm):
    x, dy, _ = draw(SHAPE)
    parameters = norm.parameters(SHAPE, "float32")
    _, stats = norm.forward(x, *parameters)
    expected = norm.backward(dy, x, stats, *parameters)
    strided = np.zeros((*parameters[0].shape, 2), np.float32)
    grads = norm.backward(dy, x, stats, *parameters, out=(None, strided[..., 0], None, None))
    np.testing.assert_array_equal(strided[..., 0], expected.dgamma)
    np.testing.assert_array_equal(grads.dx, expected.dx)
    with pytest.raises(ValueError, match="out: expected an array or a tuple"):
        norm.backward(dy, x, stats, *parameters, out=(None, None))


@each_and_shape()
def test_nothing_is_written_beside_the_results(norm, shape):
    x, dy, _ = draw(shape)
    parameters = norm.parameters(shape, "float32")
    expected, stats = norm.forward(x, *parameters)
    truth = norm.backward(dy, x, stats, *parameters)
    for offset in (0, 5):
        y, memory = framed(shape, "float32", offset)
        norm.forward(x, *parameters, out=y)
        assert intact(memory, y.size, offset)
        np.testing.assert_array_equal(y, expected)
        dx, memory = framed(shape, "float32", offset)
        dgamma, small = framed(parameters[0].shape, "float32", offset)
        norm.backward(dy, x, stats, *parameters, out=(dx, dgamma, None, None))
        assert intact(memory, dx.size, offset)
        assert intact(small, dgamma.size, offset)
        np.testing.assert_array_equal(dx, truth.dx)
        np.testing.assert_array_equal(dgamma, truth.dgamma)


@each
def test_zero_size_axes(norm):
    for shape in ((0, 4, 5), (4, 0, 5), (4, 6, 0)):
        if shape[2] == 0 and norm.name in ("instance_norm", "filter_response_norm"):
            continue  # too few values
        if shape[1] == 0 and norm.name.startswith("group"):
            continue
        x, parameters = np.zeros(shape), norm.parameters(shape, "float64")
        y, stats = norm.forward(x, *parameters)
        grads = norm.backward(x, x, stats, *parameters)
        assert y.shape == grads.dx.shape == shape
        np.testing.assert_array_equal(grads.dgamma, np.zeros(norm.own(shape)))


@each
def test_tensors_of_pytorch_share_their_memory(norm):
    torch = pytest.importorskip("torch")
    x, out = torch.randn(4, 6, 5), torch.zeros(4, 6, 5)
    parameters = norm.parameters((4, 6, 5), "float32")
    assert norm.forward(x, *parameters, out=out)[0] is out
    np.testing.assert_array_equal(out, norm.forward(x.numpy(), *parameters)[0])
    for bad in (x.bfloat16(), torch.randn(4, 6, 5, requires_grad=True)):
        with pytest.raises(TypeError, match=r"[xw]: expected"):
            norm.forward(bad, *parameters)


X = np.zeros((4, 6, 3), np.float32)


@each
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gamma": np.ones(77, "f4")}, ValueError, r"gamma: expected shape \(.*\), got \(77,\)"),
        ({"beta": np.ones(77, "f4")}, ValueError, r"beta: expected shape \(.*\), got \(77,\)"),
        ({"tau": np.ones(77, "f4")}, ValueError, r"tau: expected shape \(.*\), got \(77,\)"),
        ({"gamma": [1.0]}, TypeError, "gamma: expected an array, got list"),
        ({"eps": -1}, ValueError, "eps: expected a finite number >= 0, got -1"),
        ({"eps": float("nan")}, ValueError, "eps: expected"),
        ({"eps": float("inf")}, ValueError, "eps: expected"),
        ({"eps": "1"}, TypeError, "eps: expected a number"),
        ({"out": X[:2]}, ValueError, "out: expected shape"),
        ({"out": X.astype("f8")}, TypeError, "out: expected dtype float32"),
        ({"residual": X[:2]}, ValueError, r"residual: expected shape \(4, 6, 3\), got \(2, 6, 3\)"),
        ({"activation": "gelu"}, ValueError, "activation: expected None or 'relu', got 'gelu'"),
    ],
)
def test_errors_name_the_argument(norm, change, error, message):
    (name,) = change
    parameters = dict(zip(("gamma", "beta", "tau"), norm.parameters(X.shape, "float32"), strict=True))
    if parameters.get(name, 0) is None or (name in ("residual", "activation") and not norm.fuses):
        pytest.skip("it has none")
    with pytest.raises(error, match=message):
        norm.forward(X, **{**parameters, **change})


@each
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.float64(3.0), ValueError, "expected"),
        (np.zeros((4, 6, 3), "i2"), TypeError, "expected dtype float32 or float64, got int16"),
        (np.zeros((4, 6, 3), int), TypeError, "expected dtype float32 or float64, got int64"),
        (np.zeros((4, 6, 3), ">f4"), TypeError, "expected dtype float32 or float64"),
        ([[1.0, 2.0]], TypeError, "expected an array, got list"),
        (None, TypeError, "expected an array, got NoneType"),
    ],
)
def test_errors_of_x(norm, x, error, message):
    with pytest.raises(error, match=f"^([xw]|axes): {message}"):
        norm.forward(x, *norm.parameters(X.shape, "float32"))


@each
def test_errors_of_backward(norm):
    x, parameters = draw(SHAPE)[0], norm.parameters(SHAPE, "float32")
    _, stats = norm.forward(x, *parameters)
    with pytest.raises(ValueError, match="dy: expected shape"):
        norm.backward(x[:2], x, stats, *parameters)
    for wrong in (None, tuple(stats), nbnorm.BatchNormStats(np.ones(4), np.ones(4))):
        with pytest.raises(TypeError, match=r"stats: expected the \w+Stats that \w+_forward returned, got"):
            norm.backward(x, x, wrong, *parameters)
    with pytest.raises(ValueError, match=rf"(stats\.{stats._fields[-1]}|dy|x|w): expected"):
        norm.backward(x, x, stats._replace(**{stats._fields[-1]: stats[-1][:0]}), *parameters)


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        ((), ValueError), ((0, 0), ValueError), ((0, -3), ValueError), ((3,), ValueError), ((-4,), ValueError),
        (("x",), TypeError), (None, TypeError), (1.0, TypeError), (True, TypeError),
    ],
)  # fmt: skip
def test_axes_that_are_not_there(axes, error):
    with pytest.raises(error, match="axes: expected"):
        nbnorm.layer_norm_forward(X, axes=axes)
    with pytest.raises(error, match="axes: expected"):
        nbnorm.rms_norm_forward(X, axes=axes)


def test_axes_are_named_in_any_order_and_from_either_end():
    x = draw((3, 4, 5))[0]
    gamma = draw((4, 5))[1]
    expected, _ = nbnorm.layer_norm_forward(x, gamma, axes=(1, 2))
    for axes in ((2, 1), [-1, -2], (1, -1)):
        np.testing.assert_array_equal(nbnorm.layer_norm_forward(x, gamma, axes=axes)[0], expected)
    np.testing.assert_array_equal(nbnorm.layer_norm_forward(x, axes=-1)[0], nbnorm.layer_norm_forward(x)[0])


def test_groups():
    for groups, error in ((4, ValueError), (0, ValueError), (2.0, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match="groups: expected"):
            nbnorm.group_norm_forward(X, groups)
    _, stats = nbnorm.group_norm_forward(X, 2)
    with pytest.raises(ValueError, match="groups: expected the 2 of stats, got 3"):
        nbnorm.group_norm_backward(X, X, stats, groups=3)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (3, 5, 1, 1)])
def test_one_value_is_no_instance(shape):
    x = np.ones(shape)
    with pytest.raises(
        ValueError, match=re.escape(f"x: expected at least 2 values in a channel of a sample, got shape {shape}")
    ):
        nbnorm.instance_norm_forward(x)
    own = np.ones(shape[1])
    with pytest.raises(ValueError, match="x: expected at least 2 values in a channel of a sample"):
        nbnorm.filter_response_norm_forward(x, own, own, own)
    with pytest.raises(ValueError, match="w: expected at least 2 weights in a filter"):
        nbnorm.weight_standardization_forward(np.ones((5, 1)))


def test_a_threshold_is_needed():
    own = np.ones(6, np.float32)
    with pytest.raises(TypeError, match="tau: expected an array, got NoneType"):
        nbnorm.filter_response_norm_forward(X, own, own, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optional_arguments_and_layouts_do_not_change_a_signature(dtype):
    with recorded() as signatures:
        for norm in NORMS:
            for shape in ((4, 6, 3, 2), (4, 6, 8)):
                x = np.ones(shape, dtype)
                gamma, beta, tau = norm.parameters(shape, dtype)
                for given in (x, read_only(x), channels_last(x)):
                    for affine in ((gamma, beta), (None, None)) if not norm.has_tau else ((gamma, beta),):
                        for added in (None, given) if norm.fuses else (None,):
                            rest = {"residual": added} if norm.fuses else {}
                            _, stats = norm.forward(given, *affine, tau, **rest)
                            rest = {"y": added, "activation": "relu"} if norm.fuses else {}
                            norm.backward(given, given, stats, *affine, tau, **rest)
    assert len(signatures) == 4
    assert [form.py_func.__name__ for form, each in signatures.items() if len(each) > 1] == []


@pytest.mark.parametrize(
    "module",
    ["layer_norm", "rms_norm", "group_norm", "instance_norm", "filter_response_norm", "weight_standardization"],
)
def test_the_examples_of_the_docstrings(module):
    failed, attempted = doctest.testmod(importlib.import_module(f"nbnorm.{module}"))
    assert attempted
    assert not failed
