"""float16 and bfloat16: the float32 result of the widened arrays, rounded once; PyTorch as the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbnorm
from nbnorm import halves
from nbnorm.kernels.halves import narrow, widen

ml_dtypes = pytest.importorskip("ml_dtypes")
HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
each_half = pytest.mark.parametrize("dtype", HALVES, ids=lambda dtype: dtype.name)
ULP = {np.dtype(np.float16): 2.0**-11, np.dtype(ml_dtypes.bfloat16): 2.0**-8}
SHAPE = (6, 5, 7, 3)


def arrays(shape, dtype, count=1, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape) * 2 + 0.5).astype(dtype) for _ in range(count)]


def vectors(size, count=2):
    rng = np.random.default_rng(1)
    return [(rng.random(size) + 0.5).astype("f4") for _ in range(count)]


def wide(array):
    return None if array is None else np.asarray(array, np.float32)


def channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def same_bits(a, b):
    return np.array_equal(np.ascontiguousarray(a).view(np.uint16), np.ascontiguousarray(b).view(np.uint16))


@each_half
def test_conversions_are_those_of_the_type(dtype):
    is_bfloat = dtype.kind != "f"
    every = np.arange(65536, dtype=np.uint16)
    values = np.empty((1, 65536), np.float32)
    widen(every, (0, 0), is_bfloat, values)
    with np.errstate(all="ignore"):
        expected = every.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(np.signbit(values[0])[expected == 0], np.signbit(expected)[expected == 0])
    near = np.array([-0x1001, -0x1000, -0xFFF, -1, 0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001])
    bits = (expected.view(np.uint32)[:, None].astype(np.int64) + near).ravel().astype(np.uint32)
    random = np.random.default_rng(0).integers(0, 2**32, 300_000, dtype=np.uint32)
    values = np.concatenate([bits, random]).view(np.float32)[None]
    found = np.empty(values.size, np.uint16)
    narrow(values, (0, 0), is_bfloat, found)
    with np.errstate(all="ignore"):
        expected = values[0].astype(dtype)
    is_nan = np.isnan(values[0])
    np.testing.assert_array_equal(np.isnan(wide(found.view(dtype))), is_nan)
    np.testing.assert_array_equal(found[~is_nan], expected.view(np.uint16)[~is_nan])


@each_half
@pytest.mark.parametrize(
    "lies", [np.ascontiguousarray, channels_last, lambda x: x[::-1]], ids=["order", "last", "view"]
)
@pytest.mark.parametrize("block", [1 << 17, 64])
def test_batch_norm_is_that_of_the_widened_array(dtype, lies, block, monkeypatch):
    monkeypatch.setattr(halves, "BLOCK", block)
    monkeypatch.setattr(halves, "LINE", 2)
    x, residual, dy = (lies(each) for each in arrays(SHAPE, dtype, 3))
    gamma, beta = vectors(5)
    running, expected_running = vectors(5, 2), vectors(5, 2)
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, *running, residual=residual, activation="relu", momentum=0.3)
    ey, estats = nbnorm.batch_norm_forward(
        wide(x), gamma, beta, *expected_running, residual=wide(residual), activation="relu", momentum=0.3
    )
    assert y.dtype == dtype
    assert y.shape == SHAPE
    np.testing.assert_allclose(stats.mean, estats.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(stats.inv_std, estats.inv_std, rtol=1e-6)
    np.testing.assert_allclose(wide(y), ey, rtol=1.01 * ULP[dtype], atol=1e-6)
    for found, expected in zip(running, expected_running, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, y=y, activation="relu")
    egrads = nbnorm.batch_norm_backward(wide(dy), wide(x), estats, gamma, beta, y=wide(y), activation="relu")
    for name in ("dx", "dresidual"):
        assert getattr(grads, name).dtype == dtype
        np.testing.assert_allclose(wide(getattr(grads, name)), getattr(egrads, name), rtol=1.01 * ULP[dtype], atol=2e-6)
    for name in ("dgamma", "dbeta"):
        assert getattr(grads, name).dtype == np.float32
        np.testing.assert_allclose(getattr(grads, name), getattr(egrads, name), rtol=1e-5, atol=1e-5)
    z = nbnorm.batch_norm_infer(x, *running, gamma, beta)
    np.testing.assert_allclose(
        wide(z), nbnorm.batch_norm_infer(wide(x), *running, gamma, beta), rtol=1.01 * ULP[dtype], atol=1e-6
    )
    frozen = nbnorm.batch_norm_backward(dy, x, None, gamma, beta, running_mean=running[0], running_var=running[1])
    efrozen = nbnorm.batch_norm_backward(
        wide(dy), wide(x), None, gamma, beta, running_mean=running[0], running_var=running[1]
    )
    np.testing.assert_allclose(wide(frozen.dx), efrozen.dx, rtol=1.01 * ULP[dtype], atol=1e-6)
    np.testing.assert_allclose(frozen.dgamma, efrozen.dgamma, rtol=1e-5, atol=1e-5)


ROWS = {
    "layer": (
        lambda x, g, b, **o: nbnorm.layer_norm_forward(x, g, b, **o),
        lambda dy, x, s, g, b, **o: nbnorm.layer_norm_backward(dy, x, s, g, b, **o),
        lambda shape: shape[-1:],
    ),
    "layer of channels": (
        lambda x, g, b, **o: nbnorm.layer_norm_forward(x, g, b, axes=(1,), **o),
        lambda dy, x, s, g, b, **o: nbnorm.layer_norm_backward(dy, x, s, g, b, axes=(1,), **o),
        lambda shape: shape[1:2],
    ),
    "layer of the batch": (
        lambda x, g, b, **o: nbnorm.layer_norm_forward(x, g, b, axes=(0, 1), **o),
        lambda dy, x, s, g, b, **o: nbnorm.layer_norm_backward(dy, x, s, g, b, axes=(0, 1), **o),
        lambda shape: shape[:2],
    ),
    "rms": (
        lambda x, g, b, **o: nbnorm.rms_norm_forward(x, g, eps=1e-5, **o),
        lambda dy, x, s, g, b, **o: nbnorm.rms_norm_backward(dy, x, s, g, **o),
        lambda shape: shape[-1:],
    ),
    "group": (
        lambda x, g, b, **o: nbnorm.group_norm_forward(x, 5, g, b, **o),
        lambda dy, x, s, g, b, **o: nbnorm.group_norm_backward(dy, x, s, g, b, **o),
        lambda shape: shape[1:2],
    ),
}


@each_half
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("block", [1 << 17, 64])
def test_norms_of_rows_are_those_of_the_widened_array(dtype, name, block, monkeypatch):
    monkeypatch.setattr(halves, "BLOCK", block)
    forward, backward, own = ROWS[name]
    x, residual, dy = arrays(SHAPE, dtype, 3)
    gamma, beta = vectors(own(SHAPE))
    y, stats = forward(x, gamma, beta, residual=residual, activation="relu")
    ey, estats = forward(wide(x), gamma, beta, residual=wide(residual), activation="relu")
    for found, expected in zip(stats, estats, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert y.dtype == dtype
    np.testing.assert_allclose(wide(y), ey, rtol=1.01 * ULP[dtype], atol=1e-6)
    grads = backward(dy, x, stats, gamma, beta, y=y, activation="relu")
    egrads = backward(wide(dy), wide(x), estats, gamma, beta, y=wide(y), activation="relu")
    for field in ("dx", "dresidual"):
        np.testing.assert_allclose(
            wide(getattr(grads, field)), getattr(egrads, field), rtol=1.01 * ULP[dtype], atol=2e-6
        )
    for field in ("dgamma", "dbeta"):
        found, expected = getattr(grads, field), getattr(egrads, field)
        assert (found is None) == (expected is None)
        if found is not None:
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["batch", "layer", "group"])
def test_against_pytorch(name):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    (x,) = arrays((16, 8, 9, 4), HALVES[1])
    t = torch.from_numpy(wide(x)).to(torch.bfloat16)
    gamma, beta = vectors(4 if name == "layer" else 8)
    g, b = map(torch.from_numpy, (gamma, beta))
    if name == "batch":
        y, _ = nbnorm.batch_norm_forward(x, gamma, beta)
        expected = functional.batch_norm(t, None, None, g, b, training=True)
    elif name == "layer":
        y, _ = nbnorm.layer_norm_forward(x, gamma, beta)
        expected = functional.layer_norm(t, (4,), g.to(torch.bfloat16), b.to(torch.bfloat16))
    else:
        y, _ = nbnorm.group_norm_forward(x, 2, gamma, beta)
        expected = functional.group_norm(t, 2, g.to(torch.bfloat16), b.to(torch.bfloat16))
    truth = expected.float().numpy()
    assert np.abs(wide(y) - truth).max() <= 4 * ULP[HALVES[1]] * np.abs(truth).max()


@each_half
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), c=st.integers(1, 6), length=st.integers(0, 70), last=st.booleans(), seed=st.integers(0, 99))
def test_any_shape(dtype, n, c, length, last, seed):
    shape = (n, c, length) if length else (n + 1, c)
    (x,) = arrays(shape, dtype, seed=seed)
    x = channels_last(x) if last and len(shape) == 3 else x
    if x.size // c < 2:
        with pytest.raises(ValueError, match="at least 2 values"):
            nbnorm.batch_norm_forward(x)
        return
    y, stats = nbnorm.batch_norm_forward(x)
    expected, _ = nbnorm.batch_norm_forward(wide(x))
    np.testing.assert_allclose(wide(y), expected, rtol=1.01 * ULP[dtype], atol=1e-5)
    assert stats.mean.shape == (c,)


@each_half
def test_results_go_where_they_are_asked_for(dtype):
    x, dy = arrays(SHAPE, dtype, 2)
    gamma, beta = vectors(5)
    expected, stats = nbnorm.batch_norm_forward(x, gamma, beta)
    for out in (np.empty_like(x), channels_last(x), x.copy()[:, :, ::-1]):
        y, _ = nbnorm.batch_norm_forward(x, gamma, beta, out=out)
        assert y is out
        assert same_bits(y, expected)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta)
    out = np.empty_like(x), np.empty(5, np.float32), np.empty(5, np.float32), None
    found = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, out=out)
    assert found.dx is out[0]
    assert found.dgamma is out[1]
    assert same_bits(found.dx, grads.dx)
    np.testing.assert_array_equal(found.dgamma, grads.dgamma)
    inside = x.copy()
    y, _ = nbnorm.batch_norm_forward(inside, gamma, beta, out=inside)
    assert same_bits(inside, expected)
    buffer = np.concatenate([x.ravel(), x.ravel()[:5]])
    shifted = buffer[5:].reshape(SHAPE)
    nbnorm.batch_norm_forward(buffer[:-5].reshape(SHAPE), gamma, beta, out=shifted)
    assert same_bits(shifted, expected)
    z = x.copy()
    y, _ = nbnorm.layer_norm_forward(z, out=z)
    assert same_bits(y, nbnorm.layer_norm_forward(x)[0])


@each_half
def test_what_does_not_fit_is_refused_and_nothing_moves(dtype):
    (x,) = arrays(SHAPE, dtype)
    gamma, beta = vectors(5)
    mean, var = vectors(5)
    before = mean.copy()
    for arguments, error, message in (
        ({"gamma": gamma.astype(dtype)}, TypeError, "gamma: expected dtype float32"),
        ({"gamma": gamma[:4]}, ValueError, "gamma: expected shape"),
        ({"beta": np.ones(6, "f4")}, ValueError, "beta: expected shape"),
        ({"residual": wide(x)}, TypeError, "residual: expected dtype"),
        ({"residual": x[:2]}, ValueError, "residual: expected shape"),
        ({"out": wide(x)}, TypeError, "out: expected dtype"),
        ({"eps": -1.0}, ValueError, "eps"),
        ({"activation": "tanh"}, ValueError, "activation"),
        ({"running_var": var[:2]}, ValueError, "running_var"),
    ):
        given = {"running_mean": mean, "running_var": var, **arguments}
        with pytest.raises(error, match=message):
            nbnorm.batch_norm_forward(x, **given)
        np.testing.assert_array_equal(mean, before)
    for form in ({"mask": np.ones((6, 7, 3), bool)}, {"ghost_size": 2}, {"renorm": (3.0, 5.0)}):
        with pytest.raises(TypeError, match="float32 or float64"):
            nbnorm.batch_norm_forward(x, gamma, beta, mean, var, **form)
    with pytest.raises(TypeError, match="stats"):
        nbnorm.batch_norm_backward(x, x, (mean, var))
    with pytest.raises(TypeError, match="float32 or float64"):
        nbnorm.instance_norm_forward(x)


@each_half
def test_axes_of_no_elements_and_whole_arrays(dtype):
    for shape in ((0, 3, 2), (2, 3, 0)):
        y = nbnorm.batch_norm_infer(np.zeros(shape, dtype), np.zeros(3, "f4"), np.ones(3, "f4"))
        assert (y.shape, y.dtype) == (shape, dtype)
    y, stats = nbnorm.batch_norm_forward(np.zeros((4, 0, 2), dtype))
    assert (y.shape, stats.mean.shape) == ((4, 0, 2), (0,))
    assert nbnorm.batch_norm_backward(y, y, stats).dx.shape == (4, 0, 2)
    for x in (np.zeros((0, 3), dtype), arrays(4, dtype)[0], arrays((3, 4), dtype)[0]):
        axes = tuple(range(x.ndim)) if len(x) else (-1,)
        y, stats = nbnorm.layer_norm_forward(x, axes=axes)
        expected, of_wide = nbnorm.layer_norm_forward(wide(x), axes=axes)
        np.testing.assert_allclose(wide(y), expected, rtol=1.01 * ULP[dtype], atol=1e-6)
        assert stats.mean.shape == of_wide.mean.shape
        dx = nbnorm.layer_norm_backward(x, x, stats, axes=axes).dx
        assert (dx.shape, dx.dtype) == (x.shape, dtype)


def test_half_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.randn(6, 4, 5).half()
    out = torch.empty_like(x)
    y, _ = nbnorm.batch_norm_forward(x, out=out)
    assert y is out
    expected = torch.nn.functional.batch_norm(x.float(), None, None, training=True)
    assert torch.allclose(out.float(), expected, atol=2e-3)


@each_half
def test_gradients_are_written_where_they_are_asked_for_without_parameters_too(dtype):
    x, dy = arrays(SHAPE, dtype, 2)
    _, stats = nbnorm.batch_norm_forward(x)
    expected = nbnorm.batch_norm_backward(dy, x, stats, np.ones(5, "f4"), np.zeros(5, "f4"))
    out = None, np.full(5, np.nan, "f4"), np.full(5, np.nan, "f4"), None
    found = nbnorm.batch_norm_backward(dy, x, stats, out=out)
    assert found.dgamma is out[1]
    np.testing.assert_allclose(found.dgamma, expected.dgamma, rtol=1e-6)
    np.testing.assert_allclose(found.dbeta, expected.dbeta, rtol=1e-6)
    assert nbnorm.batch_norm_backward(dy, x, stats)[1:] == (None, None, None)
    for name, (forward, backward, own) in ROWS.items():
        _, stats = forward(x, None, None)
        shape = own(SHAPE)
        expected = backward(dy, x, stats, np.ones(shape, "f4"), np.zeros(shape, "f4"))
        out = None, np.full(shape, np.nan, "f4"), None if name == "rms" else np.full(shape, np.nan, "f4"), None
        found = backward(dy, x, stats, None, None, out=out)
        assert found.dgamma is out[1]
        np.testing.assert_allclose(found.dgamma, expected.dgamma, rtol=1e-6)
        if name != "rms":
            np.testing.assert_allclose(found.dbeta, expected.dbeta, rtol=1e-6)


@each_half
def test_arrays_that_cannot_be_written_are_read_by_the_same_kernels(dtype):
    (x,) = arrays(SHAPE, dtype)
    nbnorm.batch_norm_forward(x)
    compiled = len(widen.serial.signatures)
    locked = x.copy()
    locked.flags.writeable = False
    assert same_bits(nbnorm.batch_norm_forward(locked)[0], nbnorm.batch_norm_forward(x)[0])
    assert len(widen.serial.signatures) == compiled > 0


@each_half
def test_arrays_of_a_call_that_share_memory_are_refused(dtype):
    x, dy = arrays(SHAPE, dtype, 2)
    vector = np.ones(5, "f4")
    with pytest.raises(ValueError, match="running_mean: expected an array with memory of its own"):
        nbnorm.batch_norm_forward(x, running_mean=vector, running_var=vector)
    with pytest.raises(ValueError, match="running_var: expected an array with memory of its own"):
        nbnorm.batch_norm_forward(x, vector, running_var=vector)
    _, stats = nbnorm.batch_norm_forward(x)
    with pytest.raises(ValueError, match=r"out\.dgamma: expected an array with memory of its own"):
        nbnorm.batch_norm_backward(dy, x, stats, out=(None, vector, vector, None))
    _, stats = nbnorm.group_norm_forward(x, 5)
    with pytest.raises(ValueError, match=r"out\.dgamma: expected an array with memory of its own"):
        nbnorm.group_norm_backward(dy, x, stats, out=(None, vector, vector, None))


@each_half
def test_gradients_that_do_not_fit_are_refused_before_anything_is_written(dtype):
    x, dy = arrays(SHAPE, dtype, 2)
    _, stats = nbnorm.layer_norm_forward(x)
    dx = np.zeros_like(x)
    short = type(stats)(stats.mean[:3], stats.inv_std[:3])
    for arguments, error, message in (
        ((stats, (dx, np.ones(3, "f8"), None, None)), TypeError, "out.dgamma: expected dtype float32"),
        ((stats, (dx, np.ones(4, "f4"), None, None)), ValueError, "out.dgamma: expected shape"),
        ((short, dx), ValueError, "stats.mean: expected shape"),
        (((stats.mean, stats.inv_std), dx), TypeError, "stats: expected the LayerNormStats"),
    ):
        with pytest.raises(error, match=message):
            nbnorm.layer_norm_backward(dy, x, arguments[0], out=arguments[1])
        assert not np.any(wide(dx))
