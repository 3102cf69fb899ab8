"""Kernels write what they should, all of it, and nothing beside it; however they store it."""

import numpy as np
import pytest
from framed import framed, intact
from norms import each_norm, each_norm_and_shape


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
    for shape in [(n, c, *s) for n in (2, 30) for c in (3, 40) for s in ((), (7,), (5, 6), (2, 3, 4), (1, 90))]:
        x = np.ones(shape, np.float32)
        own = [np.ones(norm.parameters(shape), np.float32) for _ in range(4)]
        y, stats = norm.forward(x, *own[:2])
        norm.backward(y, x, stats, activation="relu")
        norm.extra(x, *own, None)
    for kernel in norm.kernels:
        forms = kernel.serial, kernel.parallel
        assert all(len(form.signatures) <= 2 for form in forms)  # float32, and float64 from other tests


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
