"""What the tests of threads and SIMD widths run in processes of their own: `python batch_norm_process.py TASK [...]`.

Each task prints one line when all is well, and fails with a traceback otherwise.
"""

import hashlib
import multiprocessing
import os
import sys
import threading
import time

import numba
import numpy as np

import nbnorm

# Whole channels, groups of them, few channels cut into parts (of images, of rows), columns in groups and in ranges.
SHAPES = [(20, 20, 30, 30), (40, 32, 7, 7), (6, 3, 70, 70), (1, 2, 40001), (200, 200), (700, 300), (9000, 7), (2, 5, 3)]


def compute(shape, dtype="float32", relu="relu"):
    """All results of forward, backward and inference."""
    rng = np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    gamma, beta, mean, var = (rng.random(shape[1]).astype(dtype) for _ in range(4))
    y, stats = nbnorm.batch_norm_forward(x, gamma, beta, mean, var, activation=relu)
    z, more = nbnorm.batch_norm_forward(x, gamma, beta, activation=relu, residual=residual)
    grads = nbnorm.batch_norm_backward(dy, x, stats, gamma, beta, activation=relu)
    others = nbnorm.batch_norm_backward(dy, x, more, gamma, beta, activation=relu, y=z)
    return [y, *stats, mean, var, z, *grads[:3], *others, nbnorm.batch_norm_infer(x, mean, var, gamma, beta)]


def digest(shapes=SHAPES):
    code = hashlib.sha256()
    for shape in shapes:
        for part in compute(shape):
            code.update(np.ascontiguousarray(part).tobytes())
    return code.hexdigest()


def serial_digest():
    """The same by the serial forms of all kernels."""
    from nbnorm.jit import Kernel

    chosen = Kernel.for_work
    Kernel.for_work = lambda self, elements: self.serial
    try:
        return digest()
    finally:
        Kernel.for_work = chosen


def bits():
    expected = serial_digest()
    for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        numba.set_num_threads(threads)
        assert digest() == expected, f"{threads} threads"
    return f"{numba.threading_layer()} {expected}"


def hammer(seconds):
    """Eight Python threads at once, each with its own shape."""
    expected = {shape: compute(shape) for shape in SHAPES}
    problems = []
    end = time.monotonic() + seconds

    def work(k):
        rounds = 0
        while time.monotonic() < end or not rounds:
            shape = SHAPES[(k + rounds) % len(SHAPES)]
            for part, truth in zip(compute(shape), expected[shape], strict=True):
                if not np.array_equal(part, truth):
                    problems.append(shape)
            rounds += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    return "hammered"


def children():
    """Forked and spawned processes and joblib's workers compute the same after this process has run kernels."""
    import joblib

    expected = digest()
    if hasattr(os, "fork"):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if digest() == expected else 1)
        assert os.waitpid(pid, 0)[1] == 0, "forked child"
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(digest, [SHAPES] * 2) == [expected] * 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(digest, [SHAPES]) == [expected]
    for backend in ("loky", "threading"):
        results = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(digest)(SHAPES) for _ in range(4))
        assert results == [expected] * 4, backend
    return "children"


def accuracy():
    """Results at this width of vectors against the float64 twins."""
    import reference_batch_norm as reference

    from nbnorm.simd import vectors

    for shape in [(6, 20, 5, 5), (40, 32, 7), (3, 2, 70), (1, 2, 5001), (30, 70), (70, 7), (9, 16)]:
        y, mean, inv_std, _, _, _, dx, dgamma, _, _, _, _, dresidual, _ = compute(shape, relu=None)
        rng = np.random.default_rng(0)
        x, dy, _ = (rng.standard_normal(shape).astype("f4") for _ in range(3))
        gamma, beta = (rng.random(shape[1]).astype("f4") for _ in range(2))
        expected, m, s = reference.forward(x, gamma, beta)
        gradient, slope, *_ = reference.backward(dy, x, gamma, beta)
        for part, truth in ((y, expected), (mean, m), (inv_std, s), (dx, gradient), (dgamma, slope), (dresidual, dy)):
            np.testing.assert_allclose(part, truth, rtol=1e-5, atol=1e-5)
    return f"{vectors.VECTOR_BYTES} {vectors.LANES_FLOAT32} {vectors.LANES_FLOAT64}"


if __name__ == "__main__":
    for task in sys.argv[1:]:
        name, _, argument = task.partition("=")
        function = {"bits": bits, "hammer": hammer, "children": children, "accuracy": accuracy}[name]
        print(function(*[float(argument)] if name == "hammer" else [argument] if argument else []), flush=True)
