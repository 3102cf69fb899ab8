"""Numerics of the norms of rows: against their twins, PyTorch and central differences, and of extreme values."""

import hashlib
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from row_norms import NORMS, draw, each, each_and_shape, each_that_fuses, length_of

import nbnorm
from nbnorm.jit import Kernel

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def close(mine, truth, tolerance):
    size = max(1.0, float(np.abs(truth).max(initial=0)))
    np.testing.assert_allclose(mine, truth, atol=tolerance * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_and_shape()
def test_agrees_with_the_twin(norm, shape, dtype):
    x, dy, _ = draw(shape, dtype)
    gamma, beta, tau = norm.parameters(shape, dtype)
    ours = norm.run(x, gamma, beta, tau, dy, 0.1)
    y = norm.twin(x, gamma, beta, tau, 0.1)
    _, _, own = norm.split(shape)
    passed = True if tau is None else (y.reshape(norm.split(shape)[0]) > tau.reshape(own)).reshape(shape)
    dx, dgamma, dbeta, dtau = norm.gradients(dy, x, gamma, beta, tau, 0.1, passed)
    close(ours["y"], y, TOLERANCE[dtype])
    for name, truth in (("dx", dx), ("dgamma", dgamma), ("dbeta", dbeta), ("dtau", dtau)):
        if name in ours:
            assert ours[name].dtype == dtype
            close(ours[name], truth, 10 * TOLERANCE[dtype])
    assert ("dbeta" in ours, "dtau" in ours) == (norm.has_beta, norm.has_tau)


@each_and_shape(lambda norm: norm.torch is not None)
def test_agrees_with_pytorch_in_float64(norm, shape):
    torch = pytest.importorskip("torch")
    x, dy, _ = draw(shape, "float64")
    gamma, beta, _ = norm.parameters(shape, "float64")
    tensors = [None if part is None else torch.tensor(part, requires_grad=True) for part in (x, gamma, beta)]
    y = norm.torch(torch.nn.functional, *tensors, 1e-3)
    y.backward(torch.tensor(dy))
    ours = norm.run(x, gamma, beta, None, dy, 1e-3)
    theirs = zip(("dx", "dgamma", "dbeta"), tensors, strict=True)
    theirs = {"y": y.detach(), **{name: part.grad for name, part in theirs if part is not None}}
    assert ours.keys() == theirs.keys()
    for name, truth in theirs.items():
        close(ours[name], truth.numpy(), 1e-12)


@pytest.mark.parametrize("ratio", [0, 100, 1e4])
@each_and_shape(lambda norm: norm.torch is not None)
def test_errors_are_never_larger_than_those_of_pytorch(norm, shape, ratio):
    torch = pytest.importorskip("torch")
    if length_of(norm, shape) < 3:
        pytest.skip("two values are normalized to 1 and -1, whatever they are")
    x, dy, _ = draw(shape)
    x += np.float32(ratio)
    gamma, beta, _ = norm.parameters(shape, "float32")
    tensors = [None if part is None else torch.tensor(part, requires_grad=True) for part in (x, gamma, beta)]
    y = norm.torch(torch.nn.functional, *tensors, 1e-5)
    y.backward(torch.tensor(dy))
    ours = norm.run(x, gamma, beta, None, dy)
    dx, dgamma, dbeta, _ = norm.gradients(dy, x, gamma, beta)
    exact = {"y": norm.twin(x, gamma, beta), "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    theirs = {"y": y.detach().numpy()}
    theirs |= {
        name: part.grad.numpy()
        for name, part in zip(("dx", "dgamma", "dbeta"), tensors, strict=True)
        if part is not None
    }
    for name, other in theirs.items():
        error, error_of_pytorch = (np.sqrt(np.mean((part - exact[name]) ** 2)) for part in (ours[name], other))
        rounding = 1e-7 * np.sqrt(np.mean(exact[name] ** 2))  # of the result and of one more operation
        assert error <= max(error_of_pytorch * 1.02, rounding), name


@settings(max_examples=150, deadline=None)
@given(
    norm=st.sampled_from([norm for norm in NORMS if norm.fuses]),
    shape=st.lists(st.integers(1, 9), min_size=3, max_size=5),
    dtype=st.sampled_from(["float32", "float64"]),
    relu=st.booleans(),
    added=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_twin(norm, shape, dtype, relu, added, affine, seed):
    if norm.name == "group_norm_2":
        shape[1] *= 2
    if norm.name == "instance_norm":
        shape[2] += 1
    shape = tuple(shape)
    x, dy, residual = draw(shape, dtype, seed)
    gamma, beta, _ = norm.parameters(shape, dtype) if affine else (None, None, None)
    residual, activation = residual if added else None, "relu" if relu else None
    y, stats = norm.forward(x, gamma, beta, activation=activation, residual=residual, eps=0.1)
    close(y, norm.twin(x, gamma, beta, None, 0.1, relu, residual), 10 * TOLERANCE[dtype])
    grads = norm.backward(dy, x, stats, gamma, beta, activation=activation, y=y if added else None)
    passed = y > 0 if relu else True
    dx, dgamma, dbeta, _ = norm.gradients(dy, x, gamma, beta, None, 0.1, passed)
    close(grads.dx, dx, 20 * TOLERANCE[dtype])
    assert (grads.dgamma is None, grads.dresidual is None) == (not affine, not added)
    if affine:
        close(grads.dgamma, dgamma, 40 * TOLERANCE[dtype])
        if norm.has_beta:
            close(grads.dbeta, dbeta, 40 * TOLERANCE[dtype])
    if added:
        np.testing.assert_array_equal(grads.dresidual, np.where(passed, dy, 0))


@each
def test_central_differences(norm):
    shape = min(norm.shapes, key=lambda shape: abs(np.prod(shape) - 60))
    x, dy, _ = draw(shape, "float64")
    inputs = [x, *norm.parameters(shape, "float64")]
    if norm.has_tau:
        y = norm.twin(*inputs, 0.1)
        assert (y.reshape(-1)[:, None] == inputs[3]).any()
    ours = norm.run(*inputs, dy, 0.1)
    rng = np.random.default_rng(1)
    for name, values in zip(("dx", "dgamma", "dbeta", "dtau"), inputs, strict=True):
        if values is None:
            continue
        for k in rng.choice(values.size, min(values.size, 12), replace=False):
            moved = []
            for step in (1e-6, -1e-6):
                other = values.copy()
                other.reshape(-1)[k] += step
                changed = [other if part is values else part for part in inputs]
                moved.append((norm.forward(*changed, eps=0.1)[0] * dy).sum())
            slope = (moved[0] - moved[1]) / 2e-6
            np.testing.assert_allclose(ours[name].reshape(-1)[k], slope, rtol=1e-6, atol=1e-7)


def compute(norm, shape):
    """All results."""
    x, dy, residual = draw(shape)
    parameters = norm.parameters(shape, "float32")
    y, stats = norm.forward(x, *parameters, **({"activation": "relu", "residual": residual} if norm.fuses else {}))
    back = {"activation": "relu", "y": y} if norm.fuses else {}
    return [y, *stats, *norm.backward(dy, x, stats, *parameters, **back)]


def digest():
    """Of all results of all norms."""
    code = hashlib.sha256()
    for norm in NORMS:
        for shape in norm.shapes:
            for part in compute(norm, shape):
                code.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
    return code.hexdigest()


@each_and_shape()
def test_one_thread_and_several_give_the_same_bits(norm, shape):
    results = compute(norm, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "for_work", lambda self, elements: self.serial)
        alone = compute(norm, shape)
    for mine, expected in zip(alone, results, strict=True):
        assert (mine is None and expected is None) or mine.tobytes() == expected.tobytes()


def test_three_threads_in_another_process_give_the_same_bits():
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "nbnorm")))
    result = subprocess.run(
        [sys.executable, "-c", "import test_row_norms; print(test_row_norms.digest())"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths, "NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert result.stdout.strip() == digest()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_and_shape()
def test_stores_past_the_caches_give_the_same_bits(norm, shape, dtype, monkeypatch):
    cut = importlib.import_module("nbnorm.kernels.rows.cut")
    x, dy, residual = draw(shape, dtype)
    parameters, given = norm.parameters(shape, dtype), {"residual": residual} if norm.fuses else {}
    x.reshape(-1)[x.size // 2] = np.nan  # spoils its row, and what is summed over it

    def beginning_at(offset):
        return np.full(x.size + 16, 7, dtype)[offset : offset + x.size].reshape(shape)

    results = []
    for least in (2**60, 0):
        for name in ("STREAM_BYTES", "GRADIENT_STREAM_BYTES"):
            monkeypatch.setattr(cut, name, least)
        cut.cut.cache_clear()
        found = []
        for offset in (0, 1, 4, 11):
            y, stats = norm.forward(x, *parameters, out=beginning_at(offset), **given)
            grads = norm.backward(dy, x, stats, *parameters, out=beginning_at(offset))
            found += [y, *stats, *grads]
        results.append(found)
    cut.cut.cache_clear()
    for plain, streamed in zip(*results, strict=True):
        np.testing.assert_array_equal(streamed, plain)


# ------------------------------------------------------------------------------------------------------ extreme values


@pytest.mark.parametrize("ratio", [0, 10, 1e3, 1e4])
@each_and_shape()
def test_statistics_where_the_mean_is_large_against_the_deviation(norm, shape, ratio):
    x = ((draw(shape)[0] - 1) * 1.5 + 3 * ratio).astype(np.float32)
    _, stats = norm.forward(x, *norm.parameters(shape, "float32"), eps=1e-12)
    mean, var = norm.statistics(x)
    np.testing.assert_allclose(stats[-1].reshape(-1) ** -2, var.reshape(-1) + 1e-12, rtol=1e-6)
    if norm.centered:
        np.testing.assert_allclose(stats.mean.reshape(-1), mean.reshape(-1), rtol=1e-6, atol=1e-6)


@each_and_shape(lambda norm: norm.centered)
def test_sorted_and_lopsided_rows(norm, shape):
    """The first values are far from the mean, and a few are very far."""
    x = np.sort(draw(shape)[0].reshape(-1)).reshape(shape)
    x.reshape(-1)[:: max(5, x.size // 20)] = 1e6
    _, stats = norm.forward(x, *norm.parameters(shape, "float32"), eps=1e-6)
    mean, var = norm.statistics(x)
    assert (np.abs(stats.mean.reshape(-1) - mean.reshape(-1)) <= 1e-6 * np.sqrt(var.reshape(-1)) + 1e-6).all()
    np.testing.assert_allclose(stats.inv_std.reshape(-1) ** -2, var.reshape(-1) + 1e-6, rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_and_shape(lambda norm: norm.centered)
def test_a_constant_row_gives_exactly_beta(norm, shape, dtype):
    split, axes, own = norm.split(shape)
    rows = [1 if axis in [each % len(split) for each in axes] else size for axis, size in enumerate(split)]
    values = (np.arange(np.prod(rows)) * 0.37 - 1).astype(dtype).reshape(rows)
    x = np.ascontiguousarray(np.broadcast_to(values, split)).reshape(shape)
    gamma, beta, _ = norm.parameters(shape, dtype)
    y, stats = norm.forward(x, gamma, beta)
    expected = np.zeros(own, dtype) if beta is None else beta.reshape(own)
    assert (y.reshape(split) == expected).all()
    assert (stats.mean.reshape(-1) == values.reshape(-1)).all()
    assert np.isfinite(norm.backward(draw(shape, dtype)[1], x, stats, gamma, beta).dx).all()


@each_and_shape()
def test_huge_and_tiny_values(norm, shape):
    if length_of(norm, shape) < 3:
        pytest.skip("too few values")
    gamma, beta, tau = norm.parameters(shape, "float32")
    for scale, eps in ((1e30, 1e-20), (1e30, 1e-5), (1e-40, 1e-5), (1e-18, 1e-40)):
        x, dy = ((part * factor).astype(np.float32) for part, factor in zip(draw(shape), (scale, 1), strict=False))
        y, stats = norm.forward(x, gamma, beta, tau, eps=eps)
        close(y, norm.twin(x, gamma, beta, tau, eps), 3e-6)
        _, var = norm.statistics(x)
        np.testing.assert_allclose(stats[-1].reshape(-1), (var.reshape(-1) + eps) ** -0.5, rtol=1e-6)
        if scale > 1 and not norm.has_tau:
            dx, dgamma, _, _ = norm.gradients(dy, x, gamma, beta, tau, eps)
            grads = norm.backward(dy, x, stats, gamma, beta, tau)
            close(grads.dx * scale, dx * scale, 1e-5)
            close(grads.dgamma, dgamma, 1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each_and_shape()
def test_nan_and_infinity_stay_in_their_row(norm, shape, bad):
    x, dy, _ = draw(shape)
    parameters = norm.parameters(shape, "float32")
    clean, clean_stats = norm.forward(x, *parameters)
    clean_grads = norm.backward(dy, x, clean_stats, *parameters)
    split, axes, own = norm.split(shape)
    at = tuple(size // 2 for size in split)
    x.reshape(split)[at] = bad
    row = np.zeros(split, bool)
    row[tuple(slice(None) if axis in [each % len(split) for each in axes] else k for axis, k in enumerate(at))] = True
    y, stats = norm.forward(x, *parameters)
    assert np.isnan(y.reshape(split)[row]).any()
    np.testing.assert_array_equal(y.reshape(split)[~row], clean.reshape(split)[~row])
    grads = norm.backward(dy, x, stats, *parameters)
    np.testing.assert_array_equal(grads.dx.reshape(split)[~row], clean_grads.dx.reshape(split)[~row])
    touched = row.any(tuple(axis for axis, size in enumerate(own) if size == 1), keepdims=True)  # its parameters
    for mine, expected in ((grads.dgamma, clean_grads.dgamma), (grads.dbeta, clean_grads.dbeta)):
        if mine is not None:
            np.testing.assert_array_equal(mine.reshape(own)[~touched], expected.reshape(own)[~touched])


@each_that_fuses
def test_nan_passes_the_relu(norm):
    shape = norm.shapes[0]
    x = draw(shape)[0]
    x.reshape(-1)[0] = np.nan
    y, _ = norm.forward(x, None, None, activation="relu")
    assert np.isnan(y.reshape(-1)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rms_norm_adds_what_pytorch_adds(dtype):
    torch = pytest.importorskip("torch")
    x = draw((8, 20), dtype)[0] * np.dtype(dtype).type(1e-4)
    y, _ = nbnorm.rms_norm_forward(x)
    np.testing.assert_allclose(y, torch.nn.functional.rms_norm(torch.tensor(x), (20,)), rtol=1e-5)


def test_weight_standardization_with_the_variance_of_the_paper():
    w = draw((8, 5, 3, 3), "float64")[0]
    standardized, _ = nbnorm.weight_standardization_forward(w, eps=0.0)
    flat = w.reshape(8, -1)
    paper = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True, ddof=1)
    np.testing.assert_allclose(standardized.reshape(8, -1) * np.sqrt(44 / 45), paper, rtol=1e-12)
