"""Batch normalization of nbnorm, from the layers of LeNet to those of ResNet-50."""

import time

import numba
import numpy as np

import nbnorm

from .common import THREADS, Timed, normal, once, use_threads

SHAPES = {
    "lenet 64x16x28x28": (64, 16, 28, 28),
    "dense 64x128": (64, 128),
    "resnet20 128x16x32x32": (128, 16, 32, 32),
    "resnet20 128x64x8x8": (128, 64, 8, 8),
    "resnet50 32x64x56x56": (32, 64, 56, 56),
    "resnet50 32x2048x7x7": (32, 2048, 7, 7),
}


class Arrays:
    """A batch with everything around it, written into the same arrays at every call."""

    def __init__(self, shape, dtype="float32", channels_last=False):
        def batch(seed):
            if not channels_last:
                return normal(shape, dtype, seed)
            return normal((shape[0], *shape[2:], shape[1]), dtype, seed).transpose(0, 3, 1, 2)

        self.x, self.dy, self.residual = batch(0), batch(1), batch(2)
        self.y, self.dx, self.dresidual = batch(3), batch(4), batch(5)
        self.gamma, self.beta = np.ones(shape[1], dtype), np.zeros(shape[1], dtype)
        self.running = np.zeros(shape[1], dtype), np.ones(shape[1], dtype)
        self.forward()

    def forward(self, activation=None):
        _, self.stats = nbnorm.batch_norm_forward(
            self.x, self.gamma, self.beta, *self.running, activation=activation, out=self.y
        )

    def forward_add(self):
        _, self.stats = nbnorm.batch_norm_forward(
            self.x, self.gamma, self.beta, *self.running, activation="relu", residual=self.residual, out=self.y
        )

    def backward(self, activation=None):
        nbnorm.batch_norm_backward(
            self.dy, self.x, self.stats, self.gamma, self.beta, activation=activation, out=self.dx
        )

    def backward_add(self):
        nbnorm.batch_norm_backward(
            self.dy, self.x, self.stats, self.gamma, self.beta, activation="relu", y=self.y,
            out=(self.dx, None, None, self.dresidual),
        )  # fmt: skip

    def infer(self):
        nbnorm.batch_norm_infer(self.x, *self.running, self.gamma, self.beta, out=self.y)


class BatchNorm(Timed):
    params = (list(SHAPES), THREADS)
    param_names = ("shape", "threads")

    @once
    def setup(self, shape, threads):
        use_threads(threads)
        self.arrays = Arrays(SHAPES[shape])
        self.arrays.backward()
        self.arrays.infer()

    def time_forward(self, shape, threads):
        self.arrays.forward()

    def time_backward(self, shape, threads):
        self.arrays.backward()

    def time_infer(self, shape, threads):
        self.arrays.infer()


class Fused(Timed):
    """With ReLU, and with a residual added before it."""

    params = (["resnet20 128x16x32x32", "resnet50 32x64x56x56"], THREADS)
    param_names = ("shape", "threads")

    @once
    def setup(self, shape, threads):
        use_threads(threads)
        self.arrays = Arrays(SHAPES[shape])
        for warm in (self.time_forward_relu, self.time_backward_relu):
            warm(shape, threads)
        self.arrays.forward_add()
        self.arrays.backward_add()

    def time_forward_relu(self, shape, threads):
        self.arrays.forward("relu")

    def time_backward_relu(self, shape, threads):
        self.arrays.backward("relu")

    def time_forward_add_relu(self, shape, threads):
        self.arrays.forward_add()

    def time_backward_add_relu(self, shape, threads):
        self.arrays.backward_add()


class Layouts(Timed):
    """The other dtype, and channels_last arrays."""

    params = (["resnet20 128x16x32x32", "resnet50 32x64x56x56"], ["float64", "float32 channels_last"])
    param_names = ("shape", "layout")

    @once
    def setup(self, shape, layout):
        use_threads("all")
        self.arrays = Arrays(SHAPES[shape], layout.split()[0], "channels_last" in layout)
        self.arrays.backward()
        self.arrays.infer()

    def time_forward(self, shape, layout):
        self.arrays.forward()

    def time_backward(self, shape, layout):
        self.arrays.backward()

    def time_infer(self, shape, layout):
        self.arrays.infer()


class Calls(Timed):
    """What a call costs where there is nothing to compute. A hundred at a time: the timer has costs of its own."""

    @once
    def setup(self):
        use_threads("all")
        self.arrays = Arrays((4, 3, 5, 5))
        self.arrays.backward()
        self.arrays.infer()

    def time_100_calls_forward(self):
        for _ in range(100):
            self.arrays.forward()

    def time_100_calls_backward(self):
        for _ in range(100):
            self.arrays.backward()

    def time_100_calls_infer(self):
        for _ in range(100):
            self.arrays.infer()


class Bandwidth:
    """Bytes of the arrays that a call reads or writes, each counted once, per second; a parallel copy is the limit."""

    params = (["copy", "forward", "backward", "infer"],)
    param_names = ("call",)
    unit = "GB/s"
    timeout = 180
    shape = SHAPES["resnet50 32x64x56x56"]
    seconds = 0.5

    def track_gigabytes_per_second(self, call):
        use_threads("all")
        arrays = Arrays(self.shape)
        run = (
            (lambda: parallel_copy(arrays.x.reshape(-1), arrays.y.reshape(-1)))
            if call == "copy"
            else getattr(arrays, call)
        )
        passes = 3 if call == "backward" else 2
        run()
        times = []
        end = time.perf_counter() + self.seconds
        while not times or time.perf_counter() < end:
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return passes * arrays.x.nbytes / np.quantile(times, 0.2) / 1e9


@numba.njit(parallel=True, cache=True)
def parallel_copy(x, y):
    for i in numba.prange(len(x)):
        y[i] = x[i]
