"""What the tests of threads and SIMD widths run in processes of their own: `python norm_process.py TASK [...]`.

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
from norms import NORMS

CASES = [(norm.name, shape) for norm in NORMS for shape in norm.processes]
BY_NAME = {norm.name: norm for norm in NORMS}


def compute(case, dtype="float32", activation="relu"):
    """All results of forward, backward and inference."""
    name, shape = case
    norm, rng = BY_NAME[name], np.random.default_rng(0)
    x, dy, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    gamma, beta, mean, var = (rng.random(norm.parameters(shape)).astype(dtype) for _ in range(4))
    y, stats = norm.forward(x, gamma, beta, activation=activation)
    z, more = norm.forward(x, gamma, beta, activation=activation, residual=residual)
    grads = norm.backward(dy, x, stats, gamma, beta, activation=activation)
    others = norm.backward(dy, x, more, gamma, beta, activation=activation, y=z)
    return [y, *stats, z, *grads[:3], *others, *norm.extra(x, gamma, beta, mean, var, activation)]


def digest(cases=CASES):
    code = hashlib.sha256()
    for case in cases:
        for part in compute(case):
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
    expected = {case: compute(case) for case in CASES}
    problems = []
    end = time.monotonic() + seconds

    def work(k):
        rounds = 0
        while time.monotonic() < end or not rounds:
            case = CASES[(k + rounds) % len(CASES)]
            for part, truth in zip(compute(case), expected[case], strict=True):
                if not np.array_equal(part, truth):
                    problems.append(case)
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
            assert pool.map(digest, [CASES] * 2) == [expected] * 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(digest, [CASES]) == [expected]
    for backend in ("loky", "threading"):
        results = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(digest)(CASES) for _ in range(4))
        assert results == [expected] * 4, backend
    return "children"


def accuracy():
    """Results at this width of vectors against the float64 twins."""
    from nbnorm.simd import vectors

    for name, shape in [(norm.name, shape) for norm in NORMS for shape in norm.accuracy]:
        norm = BY_NAME[name]
        y, mean, inv_std, _, dx, dgamma, _, _, _, _, dresidual, *_ = compute((name, shape), activation=None)
        rng = np.random.default_rng(0)
        x, dy, _ = (rng.standard_normal(shape).astype("f4") for _ in range(3))
        gamma, beta = (rng.random(norm.parameters(shape)).astype("f4") for _ in range(2))
        expected, m, s = norm.reference.forward(x, gamma, beta)
        gradient, slope, *_ = norm.reference.backward(dy, x, gamma, beta)
        for part, truth in ((y, expected), (mean, m), (inv_std, s), (dx, gradient), (dgamma, slope), (dresidual, dy)):
            np.testing.assert_allclose(part, truth, rtol=1e-5, atol=1e-5)
    return f"{vectors.VECTOR_BYTES} {vectors.LANES_FLOAT32} {vectors.LANES_FLOAT64}"


if __name__ == "__main__":
    for task in sys.argv[1:]:
        name, _, argument = task.partition("=")
        function = {"bits": bits, "hammer": hammer, "children": children, "accuracy": accuracy}[name]
        print(function(*[float(argument)] if name == "hammer" else [argument] if argument else []), flush=True)
