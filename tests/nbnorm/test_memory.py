"""Kernels write what they should, all of it, and nothing beside it."""

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbnorm
from nbnorm.kernels import batch_norm as kernels
from nbnorm.kernels.batch_norm.channels_first import cut as rows
from nbnorm.kernels.batch_norm.channels_last import loops as columns

CANARY = -12345.0


@contextlib.contextmanager
def stored_past_caches(streaming):
    """Plan all outputs of training so, or none: otherwise only those of many megabytes are."""
    with contextlib.ExitStack() as stack:
        for module in (rows, columns):
            stack.enter_context(mock.patch.object(module, "STREAM_BYTES", 0 if streaming else 2**60))
            stack.callback(module.plan.cache_clear)
            module.plan.cache_clear()
        yield


@contextlib.contextmanager
def announced():
    """Plan rows as those of large arrays, whose stores are announced to the caches."""
    with mock.patch.object(rows, "AHEAD_FROM", 0):
        rows.plan.cache_clear()
        yield
    rows.plan.cache_clear()


def framed(shape, dtype, offset):
    """An array of NaN inside a larger one that holds a canary; and that larger one."""
    size = int(np.prod(shape))
    memory = np.full(size + 200, CANARY, dtype)
    inside = memory[100 + offset : 100 + offset + size].reshape(shape)
    inside[...] = np.nan
    return inside, memory


def intact(memory, size, offset):
    return (memory[: 100 + offset] == CANARY).all() and (memory[100 + offset + size :] == CANARY).all()


@settings(max_examples=100, deadline=None)
@given(
    images=st.integers(1, 70),
    channels=st.integers(1, 70),
    length=st.one_of(st.just(1), st.integers(2, 70)),
    dtype=st.sampled_from(["float32", "float64"]),
    offset=st.integers(0, 17),
    by_output=st.booleans(),
    streaming=st.booleans(),
)
def test_outputs_are_written_whole_and_nothing_else(images, channels, length, dtype, offset, by_output, streaming):
    if images * length < 2:
        images = 2
    shape = (images, channels, length)
    rng = np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    ones, empty = np.ones(channels, dtype), np.empty((0, 0, 0), dtype)
    outputs = [framed(s, t, offset) for s, t in
               ((shape, dtype), (shape, dtype), (shape, dtype), (channels, dtype), (channels, dtype),
                (channels, "float64"), (channels, "float64"))]  # fmt: skip
    y, dx, dresidual, dgamma, dbeta, mean, inv_std = (inside for inside, _ in outputs)
    before = [part.copy() for part in (x, dy, residual, ones)]
    with stored_past_caches(streaming):
        kernels.forward(x, residual if by_output else empty, ones, ones, ones.copy(), ones.copy(), 0.1, 1e-5, True,
                        mean, inv_std, y)  # fmt: skip
        if by_output:
            kernels.backward(dy, x, y, mean, inv_std, ones, ones, True, True, dx, dgamma, dbeta, dresidual)
        else:
            kernels.backward(dy, x, empty, mean, inv_std, ones, ones, True, False, dx, dgamma, dbeta, empty)
            dresidual[...] = 0
    names = ("y", "dx", "dresidual", "dgamma", "dbeta", "mean", "inv_std")
    for (inside, memory), what in zip(outputs, names, strict=True):
        assert np.isfinite(inside).all(), what
        assert intact(memory, inside.size, offset), what
    for part, original in zip((x, dy, residual, ones), before, strict=True):
        np.testing.assert_array_equal(part, original)


def test_streaming_stores_at_any_offset(monkeypatch):
    """Outputs beyond the cache are stored past it, from the first whole cache line on; here all outputs are."""
    from nbnorm.kernels.batch_norm.channels_first import cut as rows
    from nbnorm.kernels.batch_norm.channels_last import loops as columns

    plans = [module.plan.__wrapped__ for module in (rows, columns)]

    def streaming(plan):
        def changed(*arguments):
            cut, slots = plan(*arguments)
            return np.array([*cut[:-1], True]), slots

        return changed

    for shape in ((5, 20, 49), (3, 17, 200), (2, 3, 5001), (40, 33, 1), (40, 64, 1), (500, 7, 1)):
        rng = np.random.default_rng(0)
        x, dy, residual = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
        for added in (None, residual):
            results = []
            for stream in (False, True):
                with monkeypatch.context() as patch:
                    if stream:
                        for module, plan in zip((rows, columns), plans, strict=True):
                            patch.setattr(module, "plan", streaming(plan))
                    for offset in range(0, 17, 5) if stream else [0]:
                        y, memory = framed(shape, "float32", offset)
                        _, stats = nbnorm.batch_norm_forward(x, residual=added, activation="relu", out=y)
                        dx, gradient_memory = framed(shape, "float32", offset)
                        nbnorm.batch_norm_backward(
                            dy, x, stats, activation="relu", y=None if added is None else y, out=dx
                        )
                        assert intact(memory, y.size, offset)
                        assert intact(gradient_memory, y.size, offset)
                        results.append((y, dx))
            for y, dx in results[1:]:
                np.testing.assert_array_equal(y, results[0][0])
                np.testing.assert_array_equal(dx, results[0][1])


def test_kernels_compile_for_dtypes_not_for_shapes():
    from nbnorm.kernels.batch_norm import inference
    from nbnorm.kernels.batch_norm.channels_first import backward as rows_backward
    from nbnorm.kernels.batch_norm.channels_first import forward as rows_forward
    from nbnorm.kernels.batch_norm.channels_last import backward as columns_backward
    from nbnorm.kernels.batch_norm.channels_last import forward as columns_forward

    for shape in [(n, c, *s) for n in (2, 30) for c in (3, 40) for s in ((), (7,), (5, 6), (2, 3, 4), (1, 90))]:
        x = np.ones(shape, np.float32)
        channel = np.ones(shape[1], np.float32)
        y, stats = nbnorm.batch_norm_forward(x, channel, channel, channel.copy(), channel.copy())
        nbnorm.batch_norm_backward(y, x, stats, activation="relu")
        nbnorm.batch_norm_infer(x, channel, channel)
    for module in (rows_forward, columns_forward):
        forms = module.forward.serial, module.forward.parallel
        assert all(len(form.signatures) <= 2 for form in forms)  # float32, and float64 from other tests
    for kernel in (rows_backward.backward, columns_backward.backward):
        assert all(len(form.signatures) <= 2 for form in (kernel.serial, kernel.parallel))
    forms = inference.infer.serial, inference.infer.parallel
    assert all(len(form.signatures) <= 3 for form in forms)  # float32 by statistics in float64 too, as layers have them


STREAMED = [(3, 20, 7, 7), (2, 5, 30, 31), (4, 33, 5), (40, 3, 16, 16), (70, 100), (33, 1100), (300, 40), (9, 16)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", STREAMED, ids=str)
def test_stores_past_the_caches_give_the_same_bits(shape, dtype):
    rng = np.random.default_rng(0)

    def unaligned(offset):
        size = int(np.prod(shape))
        return rng.standard_normal(size + 16).astype(dtype)[offset : offset + size].reshape(shape)

    x, dy, residual = unaligned(1), unaligned(2), unaligned(3)
    gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    results = []
    for streaming in (False, True):
        y, dx, dresidual, z, dz = (unaligned(offset) for offset in (5, 0, 7, 3, 2))
        with stored_past_caches(streaming):
            _, stats = nbnorm.batch_norm_forward(x, gamma, beta, activation="relu", residual=residual, out=y)
            nbnorm.batch_norm_forward(x, gamma, beta, out=z)
            out = (dx, None, None, dresidual)
            nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation="relu", y=y, out=out)
            nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, out=dz)
        results.append((y, dx, dresidual, z, dz))
    for plain, streamed in zip(*results, strict=True):
        np.testing.assert_array_equal(streamed, plain)


def test_an_inference_that_is_stored_past_the_caches():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 45, 217, 223), dtype=np.float32)  # 26 MB
    mean, var = rng.standard_normal(45, dtype=np.float32), rng.random(45, dtype=np.float32) + 0.5
    wanted = (x - mean[:, None, None].astype(np.float64)) / np.sqrt(var + 1e-5)[:, None, None].astype(np.float64)
    np.testing.assert_allclose(nbnorm.batch_norm_infer(x, mean, var), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 20, 7, 7), (5, 3, 30, 31), (4, 33, 5), (1, 17, 700), (7, 40, 100)], ids=str)
def test_announced_stores_change_nothing_else(shape):
    """What is announced may lie in the next run, in other arrays or nowhere: no value may change by it."""
    rng = np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    expected_y, stats = nbnorm.batch_norm_forward(x, activation="relu", residual=residual)
    expected = nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=expected_y)
    for offset in (0, 5):
        outputs = [framed(shape, "float32", offset) for _ in range(3)]
        y, dx, dresidual = (inside for inside, _ in outputs)
        with announced():
            assert rows.plan(shape[0], shape[1], int(np.prod(shape[2:])), 4, 1)[0][4] > 0
            nbnorm.batch_norm_forward(x, activation="relu", residual=residual, out=y)
            nbnorm.batch_norm_backward(dy, x, stats, activation="relu", y=expected_y, out=(dx, None, None, dresidual))
        for result, wanted in ((y, expected_y), (dx, expected.dx), (dresidual, expected.dresidual)):
            np.testing.assert_array_equal(result, wanted)
        assert all(intact(memory, inside.size, offset) for inside, memory in outputs)


@pytest.mark.parametrize("shape", [(16, 6, 28, 28), (32, 100, 50), (64, 512, 7, 7), (2, 3, 224, 224)], ids=str)
@pytest.mark.parametrize("arrays", [1, 2])
def test_four_threads_get_nearly_equal_shares_of_rows(shape, arrays):
    images, channels, length = shape[0], shape[1], int(np.prod(shape[2:]))
    group, parts = rows.plan(images, channels, length, 4, arrays)[0][:2]
    tasks = -(-channels // group) * parts
    most = -(-tasks // 4) * group / parts  # channels of the thread that has most to do
    assert most <= 1.03 * channels / 4
