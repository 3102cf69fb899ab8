"""Kernels that have no test of narrower vectors of their own, in processes that use these."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from vector_widths import NARROWER

WIDTHS = """
import numpy as np, test_dense as d, test_elementwise as e, test_epilogue as t
from minitrain.kernels.losses import softmax_cross_entropy
for dtype in ("float32", "float64"):
    t.test_planes_of_a_relu((5, 9, 13, 11), dtype)
    for shape in ((7, 33, 70), (33, 70, 10), (3, 1100, 9), (5, 1025, 5)):
        for actual, wanted in zip(*d.run(*shape, dtype), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-4)
    for name, case in (("float64", (-300, 2.8)), ("float32", (-35, 1.9))):
        e.test_tanh_and_sigmoid_keep_their_relative_precision(name, *case)
z, labels, none = np.linspace(-3, 3, 35).reshape(5, 7) ** 3, np.arange(5), np.empty((0, 0))
exact = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(5), labels])
np.testing.assert_allclose(softmax_cross_entropy.serial(z, labels, none, 0.0, none), exact, rtol=1e-14)
"""


@pytest.mark.parametrize("vector_bytes", NARROWER)
def test_agrees_with_narrower_vectors(vector_bytes):
    here = Path(__file__).parent
    paths = [*map(str, (here, here / "conv2d", here / "dense")), *sys.path]
    environment = {**os.environ, "NBNORM_VECTOR_BYTES": vector_bytes, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", WIDTHS], env=environment, check=True, timeout=300)
