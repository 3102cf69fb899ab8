"""Kernels write what they should, all of it, and nothing beside it; however they store it."""

import numpy as np
import pytest
from framed import framed, intact
from norms import each_norm, each_norm_and_shape

import nbnorm


@each_norm
def test_streaming_stores_at_any_offset(norm, monkeypatch):
    """Outputs beyond the cache are stored past it, from the first whole cache line on; here all outputs are."""
    cuts = [module.cut.__wrapped__ for module in norm.cuts]

    def streaming(module, cut):
        return lambda *arguments: np.array(module.Cut(*cut(*arguments))._replace(streaming=True))

    for shape in ((5, 20, 49), (3, 17, 200), (2, 3, 5001), (40, 33, 1), (40, 64, 1), (500, 7, 1)):
        rng = np.random.default_rng(0)
        x, dy, residual = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
        for added in (None, residual):
            results = []
            for stream in (False, True):
                with monkeypatch.context() as patch:
                    if stream:
                        for module, cut in zip(norm.cuts, cuts, strict=True):
                            patch.setattr(module, "cut", streaming(module, cut))
                    for offset in range(0, 17, 5) if stream else [0]:
                        y, memory = framed(shape, "float32", offset)
                        _, stats = norm.forward(x, residual=added, activation="relu", out=y)
                        dx, gradient_memory = framed(shape, "float32", offset)
                        norm.backward(dy, x, stats, activation="relu", y=None if added is None else y, out=dx)
                        assert intact(memory, y.size, offset)
                        assert intact(gradient_memory, y.size, offset)
                        results.append((y, dx))
            for y, dx in results[1:]:
                np.testing.assert_array_equal(y, results[0][0])
                np.testing.assert_array_equal(dx, results[0][1])


@each_norm
def test_kernels_compile_for_dtypes_not_for_shapes(norm):
    forms = [form for kernel in norm.kernels for form in (kernel.serial, kernel.parallel)]
    before = [len(form.signatures) for form in forms]  # from other tests
    for shape in [(n, c, *s) for n in (2, 30) for c in (3, 40) for s in ((), (7,), (5, 6), (2, 3, 4), (1, 90))]:
        x = np.ones(shape, np.float32)
        own = [np.ones(norm.parameters(shape), np.float32) for _ in range(4)]
        y, stats = norm.forward(x, *own[:2])
        norm.backward(y, x, stats, activation="relu")
        norm.extra(x, *own, None)
    assert all(len(form.signatures) <= former + 1 for form, former in zip(forms, before, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_norm_and_shape("streamed")
def test_stores_past_the_caches_give_the_same_bits(norm, shape, dtype):
    rng = np.random.default_rng(0)

    def unaligned(offset):
        size = int(np.prod(shape))
        return rng.standard_normal(size + 16).astype(dtype)[offset : offset + size].reshape(shape)

    x, dy, residual = unaligned(1), unaligned(2), unaligned(3)
    gamma, beta = (rng.standard_normal(norm.parameters(shape)).astype(dtype) for _ in range(2))
    results = []
    for streaming in (False, True):
        y, dx, dresidual, z, dz = (unaligned(offset) for offset in (5, 0, 7, 3, 2))
        with norm.stored_past_caches(streaming):
            _, stats = norm.forward(x, gamma, beta, activation="relu", residual=residual, out=y)
            norm.forward(x, gamma, beta, out=z)
            out = (dx, None, None, dresidual)
            norm.backward(dy, x, stats, gamma, beta, activation="relu", y=y, out=out)
            norm.backward(dy, x, stats, gamma, beta, out=dz)
        results.append((y, dx, dresidual, z, dz))
    for plain, streamed in zip(*results, strict=True):
        np.testing.assert_array_equal(streamed, plain)


@pytest.mark.parametrize("name", ["x", "gamma", "beta", "residual", "running_var"])
@pytest.mark.parametrize("written", ["running_mean", "running_var"])
def test_running_statistics_have_memory_of_their_own(written, name):
    """What one channel writes must not be what another one reads: refused where it would be, accepted beside it."""
    memory = np.ones(4 * 5 * 3 + 8, np.float32)
    memory[:60] = np.random.default_rng(0).standard_normal(60)
    sizes = {"x": (4, 5, 3), "residual": (4, 5, 3)}
    arrays = {each: np.ones(5, np.float32) for each in ("gamma", "beta", "running_mean", "running_var")}
    arrays |= {each: np.ones(shape, np.float32) for each, shape in sizes.items()}
    if name == written:
        name = "running_mean"  # the other one
    shape = arrays[name].shape
    arrays[name] = memory[: int(np.prod(shape))].reshape(shape)
    arrays[written] = memory[2:7]
    with pytest.raises(ValueError, match=r"running_(mean|var): expected an array with memory of its own"):
        nbnorm.batch_norm_forward(**arrays)
    arrays[written] = memory[-5:]
    y, _ = nbnorm.batch_norm_forward(**arrays)
    assert np.isfinite(y).all()


def test_interleaved_running_statistics_are_apart():
    table = np.zeros((5, 2), np.float32)
    x = np.random.default_rng(0).standard_normal((8, 5, 3)).astype(np.float32)
    nbnorm.batch_norm_forward(x, running_mean=table[:, 0], running_var=table[:, 1], momentum=1.0)
    np.testing.assert_allclose(table[:, 0], x.mean((0, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", ["dbeta", "x", "dy", "gamma"])
def test_gradients_of_parameters_have_memory_of_their_own(other):
    rng = np.random.default_rng(0)
    x, dy, gamma = rng.standard_normal((8, 5, 3)), rng.standard_normal((8, 5, 3)), np.ones(5)
    _, stats = nbnorm.batch_norm_forward(x, gamma)
    dbeta = np.empty(5)
    dgamma = {"dbeta": dbeta, "x": x.reshape(-1)[3:8], "dy": dy.reshape(-1)[3:8], "gamma": gamma}[other]
    with pytest.raises(ValueError, match=r"out\.dgamma: expected an array with memory of its own"):
        nbnorm.batch_norm_backward(dy, x, stats, gamma, out=(None, dgamma, dbeta, None))
