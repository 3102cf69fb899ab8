"""Convolutions: forward, and both gradients."""

from .common import THREADS, Timed, layer_plan, once, use_threads

# Batch, channels, height, width of the input; the layer's arguments.
CONVOLUTIONS = {
    "lenet 5x5, 1 to 16 of 28x28": ((64, 1, 28, 28), {"out_channels": 16, "kernel_size": 5, "padding": 2}),
    "lenet 5x5, 16 to 32 of 14x14": ((64, 16, 14, 14), {"out_channels": 32, "kernel_size": 5, "padding": 2}),
    "resnet20 3x3, 16 of 32x32": ((32, 16, 32, 32), {"out_channels": 16, "kernel_size": 3, "padding": 1}),
    "resnet20 3x3, 16 to 32 in steps of 2": (
        (32, 16, 32, 32),
        {"out_channels": 32, "kernel_size": 3, "stride": 2, "padding": 1},
    ),
    "resnet20 3x3, 64 of 8x8": ((32, 64, 8, 8), {"out_channels": 64, "kernel_size": 3, "padding": 1}),
    "resnet50 1x1, 64 to 256 of 28x28": ((8, 64, 28, 28), {"out_channels": 256, "kernel_size": 1}),
    "depthwise 3x3, 64 of 28x28": ((8, 64, 28, 28), {"out_channels": 64, "kernel_size": 3, "padding": 1, "groups": 64}),
}


class Conv2d(Timed):
    params = (list(CONVOLUTIONS), THREADS)
    param_names = ("convolution", "threads")

    @once
    def setup(self, convolution, threads):
        from minitrain import layers

        use_threads(threads)
        shape, arguments = CONVOLUTIONS[convolution]
        self.plan = layer_plan(layers.Conv2d(bias=False, **arguments), shape)

    def time_forward(self, convolution, threads):
        self.plan.forward()

    def time_backward(self, convolution, threads):
        self.plan.backward()
