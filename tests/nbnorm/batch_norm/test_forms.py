"""Batch norm of valid values, by ghosts and renormalized: against the plain norm, NumPy, PyTorch, and differences."""

import pickle

import numba
import numpy as np
import pytest
import reference_batch_norm as reference
from hypothesis import given, settings
from hypothesis import strategies as st

import nbnorm
from nbnorm.jit import dispatch

TOLERANCE = {"float64": 1e-12, "float32": 3e-6}
SHAPES = st.tuples(st.integers(2, 7), st.integers(1, 40), st.lists(st.integers(1, 23), max_size=2)).map(
    lambda parts: (*parts[:2], *parts[2])
)
# Rows in groups of channels and in chunks, columns in one task and in several.
LARGE = [(16, 20, 14, 14), (4, 3, 70, 70), (300, 160), (9000, 5)]


@pytest.fixture(autouse=True)
def _serial_kernels(monkeypatch):
    """The serial form of all kernels, unless a test asks for both: half of the compilation."""
    monkeypatch.setattr(dispatch, "SERIAL_WORK", 2**62)


def drawn(shape, dtype="float64", seed=0):
    """x, dy, gamma, beta, a mask with at least two valid values."""
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    mask = rng.random((shape[0], *shape[2:])) < 0.6
    mask.reshape(-1)[:2] = True
    return 2 * x + 3, dy, gamma, beta, mask


def packed(x, mask):
    """The valid values, (count, C)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)[mask])


def spoiled(x, mask):
    """x with NaN where nothing is valid."""
    result = np.moveaxis(x, 1, -1).copy()
    result[~mask] = np.nan
    return np.ascontiguousarray(np.moveaxis(result, -1, 1))


def unpacked(values, mask):
    result = np.zeros((*mask.shape, values.shape[1]), values.dtype)
    result[mask] = values
    return np.moveaxis(result, -1, 1)


def close(got, expected, dtype, scale=1.0):
    tolerance = TOLERANCE[np.dtype(dtype).name] * scale
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


def expect_packed(shape, dtype, activation, with_residual, seed=0):
    """Everything with a mask is what the plain norm gives for the valid values alone, and 0 elsewhere."""
    x, dy, gamma, beta, mask = drawn(shape, dtype, seed)
    residual = drawn(shape, dtype, seed + 1)[0] if with_residual else None
    channels = shape[1]
    running, twins = ([np.zeros(channels, dtype), np.ones(channels, dtype)] for _ in range(2))
    y, stats = nbnorm.batch_norm_forward(
        spoiled(x, mask), gamma, beta, *running, mask=mask, activation=activation,
        residual=None if residual is None else spoiled(residual, mask),
    )  # fmt: skip
    expected, own = nbnorm.batch_norm_forward(
        packed(x, mask), gamma, beta, *twins, activation=activation,
        residual=None if residual is None else packed(residual, mask),
    )  # fmt: skip
    close(y, unpacked(expected, mask), dtype)
    assert (np.moveaxis(y, 1, -1)[~mask] == 0).all()
    for got, twin in zip((*stats, *running), (*own, *twins), strict=True):
        close(got, twin, dtype)
    grads = nbnorm.batch_norm_backward(
        spoiled(dy, mask), spoiled(x, mask), stats, gamma, beta, activation=activation, mask=mask,
        y=None if residual is None else y,
    )  # fmt: skip
    twin = nbnorm.batch_norm_backward(
        packed(dy, mask), packed(x, mask), own, gamma, beta, activation=activation,
        y=None if residual is None else packed(y, mask),
    )  # fmt: skip
    sums = np.abs(dy).sum() / channels
    close(grads.dx, unpacked(twin.dx, mask), dtype, 10)
    close(grads.dgamma, twin.dgamma, dtype, 1 + sums)
    close(grads.dbeta, twin.dbeta, dtype, 1 + sums)
    if residual is not None:
        np.testing.assert_array_equal(grads.dresidual, unpacked(twin.dresidual, mask))


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.sampled_from([None, "relu"]), st.booleans(), st.integers(0, 100))
def test_a_mask_is_the_norm_of_the_valid_values(shape, activation, with_residual, seed):
    expect_packed(shape, "float64", activation, with_residual, seed)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", LARGE)
def test_a_mask_of_a_large_array(shape, dtype):
    expect_packed(shape, dtype, "relu", shape[0] % 2 == 0)


# A mask, and ghosts: rows and columns of which there are more than working spaces for them, and of the last a few more.
@pytest.mark.parametrize(
    ("shape", "ghost_size"), [*((shape, None) for shape in LARGE), ((41, 20, 6, 6), 2), ((300, 160), 4)]
)
def test_the_same_bits_with_any_number_of_threads(shape, ghost_size, monkeypatch):
    x, dy, gamma, beta, mask = drawn(shape, "float32")
    form = {"mask": mask} if ghost_size is None else {"ghost_size": ghost_size}

    def run():
        y, stats = nbnorm.batch_norm_forward(x, gamma, beta, **form)
        return [y, *stats[:2], *nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, **form)[:3]]

    results = [run()]
    monkeypatch.setattr(dispatch, "SERIAL_WORK", 0)
    threads = numba.get_num_threads()
    for count in (1, threads):
        numba.set_num_threads(count)
        results.append(run())
    numba.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_channels_last_arrays_and_lengths():
    x, dy, gamma, beta, _ = drawn((6, 5, 9))
    lengths = np.array([9, 1, 0, 4, 7, 2], np.uint8)
    mask = np.arange(9) < lengths[:, None]
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, mask=mask)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, mask=mask)
    last = [np.ascontiguousarray(each.transpose(0, 2, 1)).transpose(0, 2, 1) for each in (x, dy)]
    for given_x, given_dy in ((x, dy), last):
        other, found = nbnorm.batch_norm_forward(given_x, gamma, beta, lengths=lengths)
        close(other, y, "float64")
        again = nbnorm.batch_norm_backward(given_dy, given_x, found, gamma, beta, lengths=lengths)
        for a, b in zip(again[:3], grads[:3], strict=True):
            close(a, b, "float64", 10)
    mean, var = np.zeros(5), np.ones(5)
    inferred = nbnorm.batch_norm_infer(spoiled(x, mask), mean, var, gamma, beta, lengths=lengths)
    expected = nbnorm.batch_norm_infer(x, mean, var, gamma, beta)
    np.testing.assert_array_equal(inferred, np.where(mask[:, None], expected, 0))


@pytest.mark.parametrize("shape", [(6, 5, 9), (40, 20)])
def test_special_values_where_they_count(shape):
    x, dy, gamma, beta, mask = drawn(shape, "float32")
    x[:, 1] = 3.5  # a constant channel
    x[:, 2] = x[:, 2] * 1e30  # squares overflow float32
    y, stats = nbnorm.batch_norm_forward(spoiled(x, mask), gamma, beta, mask=mask)
    assert (np.moveaxis(y, 1, -1)[mask][:, 1] == beta[1]).all()
    expected = reference.forward(packed(x, mask), gamma, beta)[0]
    close(y, unpacked(expected, mask), "float32")
    grads = nbnorm.batch_norm_backward(spoiled(dy, mask), spoiled(x, mask), stats, gamma, beta, mask=mask)
    assert all(np.isfinite(each).all() for each in grads[:3])
    first = np.argwhere(mask)[0]
    x[(first[0], 0, *first[1:])] = np.nan
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, mask=mask)
    assert np.isnan(y[:, 0]).any()
    assert np.isfinite(y[:, 1:]).all()


def test_results_may_lie_in_the_memory_of_inputs():
    x, dy, gamma, beta, mask = drawn((6, 5, 9))
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, mask=mask)
    dx = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, mask=mask).dx
    own, into = x.copy(), dy.copy()
    assert nbnorm.batch_norm_backward(into, x, stats, gamma, beta, mask=mask, out=into).dx is into
    np.testing.assert_array_equal(into, dx)
    assert nbnorm.batch_norm_forward(own, gamma, beta, mask=mask, out=own)[0] is own
    np.testing.assert_array_equal(own, y)


def differences(function, x, direction, step=1e-6):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("form", ["mask", "ghost_size"])
@pytest.mark.parametrize("shape", [(7, 3, 5), (9, 4)])
def test_gradients_are_central_differences(shape, form, activation):
    x, dy, gamma, beta, mask = drawn(shape)
    given = {"mask": mask} if form == "mask" else {"ghost_size": 3}
    stats = nbnorm.batch_norm_forward(x, gamma, beta, **given)[1]
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation=activation, **given)

    def loss(x=x, gamma=gamma, beta=beta):
        return (dy * nbnorm.batch_norm_forward(x, gamma, beta, activation=activation, **given)[0]).sum()

    rng = np.random.default_rng(5)
    for name, value, gradient in (("x", x, grads.dx), ("gamma", gamma, grads.dgamma), ("beta", beta, grads.dbeta)):
        direction = rng.standard_normal(value.shape)
        expected = differences(lambda each, name=name: loss(**{name: each}), value, direction)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.integers(1, 9), st.sampled_from([None, "relu"]), st.booleans())
def test_ghosts_are_batches_of_their_own(shape, size, activation, with_residual):
    shape = (shape[0] * 2, *shape[1:])
    if size == 1 and np.prod(shape[2:]) < 2:
        size = 2
    x, dy, gamma, beta, _ = drawn(shape)
    residual = drawn(shape, seed=1)[0] if with_residual else None
    running, twins = ([np.zeros(shape[1]), np.ones(shape[1])] for _ in range(2))
    y, stats = nbnorm.batch_norm_forward(
        x, gamma, beta, *running, ghost_size=size, activation=activation, residual=residual
    )
    starts = [*range(0, len(x) - size + 1, size)] or [0]
    grads = nbnorm.batch_norm_backward(
        dy, x, stats, gamma, beta, ghost_size=size, activation=activation, y=None if residual is None else y
    )
    dgamma = dbeta = 0
    for g, start in enumerate(starts):
        ghost = slice(start, start + size if g < len(starts) - 1 else len(x))
        own = None if residual is None else residual[ghost]
        expected, found = nbnorm.batch_norm_forward(x[ghost], gamma, beta, *twins, activation=activation, residual=own)
        close(y[ghost], expected, "float64")
        close(stats.mean[g], found.mean, "float64")
        close(stats.inv_std[g], found.inv_std, "float64")
        part = nbnorm.batch_norm_backward(
            dy[ghost], x[ghost], found, gamma, beta, activation=activation, y=None if own is None else y[ghost]
        )
        close(grads.dx[ghost], part.dx, "float64", 100)
        dgamma, dbeta = dgamma + part.dgamma, dbeta + part.dbeta
    close(grads.dgamma, dgamma, "float64", 100)
    close(grads.dbeta, dbeta, "float64", 100)
    for got, twin in zip(running, twins, strict=True):
        close(got, twin, "float64", 10)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (12, 7)])
def test_renormalized_by_the_papers_formulas(shape, activation):
    torch = pytest.importorskip("torch")
    x, dy, gamma, beta, _ = drawn(shape)
    rng = np.random.default_rng(3)
    mean, var = 3 + rng.standard_normal(shape[1]), rng.uniform(0.5, 9, shape[1])
    eps, momentum, axes = 1e-3, 0.25, [0, *range(2, len(shape))]

    def wide(each):
        return each.reshape(1, -1, *[1] * (len(shape) - 2))

    leaves = [torch.tensor(each, requires_grad=True) for each in (x, gamma, beta)]
    batch_mean, batch_var = leaves[0].mean(axes), leaves[0].var(axes, unbiased=False)
    std, running_std = (batch_var + eps).sqrt(), torch.tensor(var + eps).sqrt()
    r = (std / running_std).clip(1 / 1.5, 1.5).detach()
    d = ((batch_mean - torch.tensor(mean)) / running_std).clip(-0.4, 0.4).detach()
    assert len(set(r.tolist())) > 2 or shape[1] < 3  # not all of them are clipped
    expected = (leaves[0] - wide(batch_mean)) / wide(std) * wide(r) + wide(d)
    expected = expected * wide(leaves[1]) + wide(leaves[2])
    expected = torch.relu(expected) if activation else expected
    expected.backward(torch.tensor(dy))
    running = mean.copy(), var.copy()
    y, stats = nbnorm.batch_norm_forward(
        x, gamma, beta, *running, renorm=(1.5, 0.4), eps=eps, momentum=momentum, activation=activation
    )
    close(y, expected.detach().numpy(), "float64", 10)
    close(stats.r, r.numpy(), "float64", 10)
    close(stats.d, d.numpy(), "float64", 10)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation=activation)
    for got, leaf in zip(grads[:3], leaves, strict=True):
        close(got, leaf.grad.numpy(), "float64", 100)
    close(running[0], 0.75 * mean + 0.25 * x.mean(tuple(axes)), "float64")
    close(running[1], 0.75 * var + 0.25 * x.var(tuple(axes), ddof=1), "float64", 10)
    again = pickle.loads(pickle.dumps(stats))
    np.testing.assert_array_equal(again.r, stats.r)
    assert len(again) == 2


def test_renorm_without_room_is_batch_norm():
    x, _, gamma, beta, _ = drawn((6, 5, 4))
    mean, var = np.zeros(5), np.ones(5)
    expected = nbnorm.batch_norm_forward(x, gamma, beta)[0]
    close(nbnorm.batch_norm_forward(x, gamma, beta, mean, var, renorm=(1, 0))[0], expected, "float64")


X = np.zeros((4, 3, 5))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"mask": np.ones((4, 5))}, TypeError, "mask: expected dtype bool, got float64"),
        ({"mask": np.ones((4, 3, 5), bool)}, ValueError, r"mask: expected shape \(4, 5\)"),
        (
            {"mask": np.zeros((4, 5), bool)},
            ValueError,
            r"mask: expected at least 2 valid .* batch of shape \(4, 3, 5\)",
        ),
        ({"lengths": np.array([1, 0, 0, 0])}, ValueError, "lengths: expected at least 2 valid values"),
        ({"lengths": np.array([1, 6, 0, 0])}, ValueError, "lengths: expected numbers from 0 to 5, got 0 to 6"),
        ({"lengths": np.array([-1, 5, 0, 0])}, ValueError, "lengths: expected numbers from 0 to 5"),
        ({"lengths": np.ones(4)}, TypeError, "lengths: expected integers"),
        ({"lengths": np.ones(3, int)}, ValueError, r"lengths: expected shape \(4,\)"),
        ({"ghost_size": 0}, ValueError, "ghost_size"),
        ({"ghost_size": 2.0}, TypeError, "ghost_size"),
        ({"renorm": 3.0}, TypeError, r"renorm: expected a tuple \(rmax, dmax\)"),
        ({"renorm": (0.5, 1.0)}, ValueError, "renorm: rmax"),
        ({"renorm": (2.0, -1.0)}, ValueError, "renorm: dmax"),
        ({"renorm": (2.0, 1.0)}, TypeError, "renorm: expected running_mean and running_var"),
        ({"ghost_size": 2, "renorm": (3, 5)}, ValueError, "one of these at most, got ghost_size and renorm"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, words):
    with pytest.raises(error, match=words):
        nbnorm.batch_norm_forward(X, **arguments)


def test_other_errors():
    with pytest.raises(ValueError, match="lengths: expected an x of shape"):
        nbnorm.batch_norm_forward(np.zeros((4, 3, 5, 5)), lengths=np.ones(4, int))
    with pytest.raises(ValueError, match="ghost_size: expected at least 2 values per channel in each ghost"):
        nbnorm.batch_norm_forward(np.zeros((4, 3)), ghost_size=1)
    stats = nbnorm.batch_norm_forward(X)[1]
    with pytest.raises(ValueError, match=r"stats.mean: expected shape \(2, 3\)"):
        nbnorm.batch_norm_backward(X, X, stats, ghost_size=2)
