"""A minitrain model in MLX, channels last, with weights of its own: a compiled step, and inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minitrain import Model, layers

__all__ = ["mlx_inference", "mlx_step"]


def mlx_step(model: Model, x: np.ndarray, labels: np.ndarray, adam: bool) -> Callable[[], object]:
    """Return a whole training step."""
    import mlx.core as mx
    from mlx import nn, optimizers

    mx.set_default_device(mx.cpu)
    net, arrays = _net(model), (_array(x), mx.array(labels))
    optimizer = optimizers.Adam(1e-3) if adam else optimizers.SGD(0.01, momentum=0.9)
    gradients = nn.value_and_grad(net, lambda x, y: nn.losses.cross_entropy(net(x), y, reduction="mean"))
    state = [net.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x: Any, y: Any) -> Any:
        loss, found = gradients(x, y)
        optimizer.update(net, found)
        return loss

    def call() -> float:
        loss = step(*arrays)
        mx.eval(state, loss)
        return float(loss.item())

    return call


def mlx_inference(model: Model, x: np.ndarray) -> Callable[[], object]:
    """Return the call of the compiled net."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    net, array = _net(model), _array(x)
    net.eval()
    run = mx.compile(net)
    return lambda: mx.eval(run(array))


def _array(x: np.ndarray) -> Any:
    import mlx.core as mx

    return mx.array(np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x)


def _net(model: Model) -> Any:
    from mlx import nn

    class Net(nn.Module):
        """The layers in the graph's order."""

        def __init__(self) -> None:
            super().__init__()
            shapes = model.graph.shapes(2)
            made = {node.name: _module(node.layer, shapes[node.inputs[0]]) for node in model.graph.nodes}
            self.parts = {name: module for name, module in made.items() if module is not None}

        def __call__(self, x: Any) -> Any:
            values = {next(iter(model.input_shapes)): x}
            for node in model.graph.nodes:
                inputs = [values[each] for each in node.inputs]
                values[node.name] = _apply(node.layer, self.parts.get(node.name), inputs)
            return values[next(iter(model.graph.outputs.values()))]

    return Net()


def _module(layer: layers.Layer, shape: tuple[int, ...]) -> Any:
    """The part with weights or settings, None where `_apply` needs none."""
    from mlx import nn

    channels = shape[1]
    match layer:
        case layers.Conv2d():
            sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
            return nn.Conv2d(channels, layer.out_channels, *sizes, bias=layer.bias)
        case layers.Dense():
            return nn.Linear(channels, layer.out_features, bias=layer.bias)
        case layers.BatchNorm():
            return nn.BatchNorm(channels, eps=layer.eps, momentum=layer.momentum)
        case layers.MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case layers.AvgPool2d():
            return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
    return None


def _apply(layer: layers.Layer, module: Any, inputs: list[Any]) -> Any:
    import mlx.core as mx
    from mlx import nn

    x = inputs[0]
    match layer:
        case layers.ReLU():
            return nn.relu(x)
        case layers.ReLU6():
            return nn.relu6(x)
        case layers.Sigmoid():
            return mx.sigmoid(x)
        case layers.Flatten():
            return x.reshape(x.shape[0], -1)
        case layers.GlobalAvgPool():
            return x.mean(axis=(1, 2))
        case layers.Add():
            return sum(inputs[1:], start=x)
        case layers.Concat():
            return mx.concatenate(inputs, axis=-1)
    if module is None:
        raise TypeError(f"no MLX module for {layer}")
    return module(x)
