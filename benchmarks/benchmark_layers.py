"""Every layer but the convolution, one at a time: with the arguments of its first example, on larger inputs."""

from minitrain import layers

from .common import Timed, layer_plan, once, use_threads

INPUTS = {2: (64, 784), 3: (64, 28, 28), 4: (64, 32, 28, 28)}  # in place of the example's, by the number of axes
LARGER = {
    "Dense": {"out_features": 128},
    "GroupNorm": {"groups": 8},
}  # arguments that are too small in the example to be worth measuring
NOT_HERE = {
    "Conv2d": "benchmark_conv.py",
    "ConditionalBatchNorm": "one of its inputs is labels",
    "Flatten": "a view in both directions",
}


def case(name):
    """Return a function that makes a layer, and the shapes of its inputs."""
    layer = layers.LAYERS[name]
    example = layer.examples[0]
    arguments = {**example.arguments, **LARGER.get(name, {})}
    return (lambda: layer(**arguments)), *(INPUTS[len(shape)] for shape in example.shapes)


LAYERS = {name: case(name) for name in layers.LAYERS if name not in NOT_HERE}


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
