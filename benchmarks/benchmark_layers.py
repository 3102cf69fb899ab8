"""Every layer but the convolution, one at a time."""

from minitrain import layers

from .common import Timed, layer_plan, once, use_threads

IMAGES = (64, 32, 28, 28)

# Made when they are measured: a commit that lacks a layer fails that one alone.
LAYERS = {
    "Add": (lambda: layers.Add(), IMAGES, IMAGES),
    "AvgPool2d": (lambda: layers.AvgPool2d(2), IMAGES),
    "BatchNorm": (lambda: layers.BatchNorm(), IMAGES),
    "Concat": (lambda: layers.Concat(), IMAGES, IMAGES),
    "Dense": (lambda: layers.Dense(128), (64, 784)),
    "Dropout": (lambda: layers.Dropout(0.5), IMAGES),
    "GlobalAvgPool": (lambda: layers.GlobalAvgPool(), IMAGES),
    "LeakyReLU": (lambda: layers.LeakyReLU(), IMAGES),
    "MaxPool2d": (lambda: layers.MaxPool2d(2), IMAGES),
    "PReLU": (lambda: layers.PReLU(), IMAGES),
    "ReLU": (lambda: layers.ReLU(), IMAGES),
    "Sigmoid": (lambda: layers.Sigmoid(), IMAGES),
    "Tanh": (lambda: layers.Tanh(), IMAGES),
}
ELSEWHERE = {"Conv2d"}  # benchmark_conv.py
NO_WORK = {"Flatten"}  # a view in both directions


class Layer(Timed):
    params = (list(LAYERS),)
    param_names = ("layer",)

    @once
    def setup(self, layer):
        use_threads("all")
        make, *shapes = LAYERS[layer]
        self.plan = layer_plan(make(), *shapes)

    def time_forward(self, layer):
        self.plan.forward()

    def time_backward(self, layer):
        self.plan.backward()
