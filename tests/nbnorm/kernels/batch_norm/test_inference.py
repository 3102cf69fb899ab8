"""Inference by given statistics."""

import numpy as np

import nbnorm
from nbnorm.kernels.batch_norm import inference


def test_an_inference_that_is_stored_past_the_caches():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 45, 217, 223), dtype=np.float32)  # 26 MB
    mean, var = rng.standard_normal(45, dtype=np.float32), rng.random(45, dtype=np.float32) + 0.5
    wanted = (x - mean[:, None, None].astype(np.float64)) / np.sqrt(var + 1e-5)[:, None, None].astype(np.float64)
    np.testing.assert_allclose(nbnorm.batch_norm_infer(x, mean, var), wanted, rtol=1e-5, atol=1e-5)


def test_inference_compiles_for_dtypes_not_for_shapes():
    for shape in [(n, c, *s) for n in (2, 30) for c in (3, 40) for s in ((), (7,), (5, 6), (2, 3, 4), (1, 90))]:
        channel = np.ones(shape[1], np.float32)
        nbnorm.batch_norm_infer(np.ones(shape, np.float32), channel, channel)
    forms = inference.infer.serial, inference.infer.parallel
    assert all(len(form.signatures) <= 3 for form in forms)  # float32 by statistics in float64 too, as layers have them
