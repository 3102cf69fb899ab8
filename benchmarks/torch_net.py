"""A minitrain model as the torch module that a PyTorch user would have written, with the same weights."""

from __future__ import annotations

import copy

from minitrain import Model, layers

try:
    import torch
    from torch import nn
except ImportError:  # asv imports every module of this folder, in environments without PyTorch too
    nn = None

__all__ = ["TorchNet"]


class TorchNet(nn.Module if nn else object):
    """The layers of a model as torch modules, called in the graph's order."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        shapes = model.graph.shapes(2)
        self.steps = []
        self.parts = nn.ModuleDict()
        for node in model.graph.nodes:
            module = _module(node.layer, [shapes[name] for name in node.inputs])
            if module is not None:
                self.parts[node.name] = module
            self.steps.append((node.name, node.layer, node.inputs))
        self.input = next(iter(model.input_shapes))
        self.output = next(iter(model.graph.outputs.values()))
        self._copy_weights(model)

    def _copy_weights(self, model: Model) -> None:
        renamed = {"gamma": "weight", "beta": "bias"}
        with torch.no_grad():
            targets = {**dict(self.parts.named_parameters()), **dict(self.parts.named_buffers())}
            for name, value in {**model.params, **model.state}.items():
                node, local = name.rsplit(".", 1)
                targets[f"{node}.{renamed.get(local, local)}"].copy_(torch.from_numpy(copy.copy(value)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {self.input: x}
        for name, layer, inputs in self.steps:
            arguments = [values[each] for each in inputs]
            if isinstance(layer, layers.Add):
                values[name] = sum(arguments[1:], start=arguments[0])
            elif isinstance(layer, layers.Concat):
                values[name] = torch.cat(arguments, layer.axis)
            elif isinstance(layer, layers.GlobalAvgPool):
                values[name] = arguments[0].mean(dim=(2, 3))
            else:
                values[name] = self.parts[name](arguments[0])
        return values[self.output]


def _module(layer: layers.Layer, shapes: list[tuple[int, ...]]) -> nn.Module | None:
    channels = shapes[0][1]
    match layer:
        case layers.Conv2d():
            sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
            return nn.Conv2d(channels, layer.out_channels, *sizes, bias=layer.bias)
        case layers.Dense():
            return nn.Linear(channels, layer.out_features, bias=layer.bias)
        case layers.BatchNorm():
            kind = nn.BatchNorm1d if len(shapes[0]) == 2 else nn.BatchNorm2d
            return kind(channels, eps=layer.eps, momentum=layer.momentum)
        case layers.ReLU():
            return nn.ReLU(inplace=True)
        case layers.ReLU6():
            return nn.ReLU6(inplace=True)
        case layers.Sigmoid():
            return nn.Sigmoid()
        case layers.MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case layers.AvgPool2d():
            return nn.AvgPool2d(
                layer.kernel_size, layer.stride, layer.padding, count_include_pad=layer.count_include_pad
            )
        case layers.Flatten():
            return nn.Flatten()
        case layers.Add() | layers.Concat() | layers.GlobalAvgPool():
            return None
    raise TypeError(f"no torch module for {layer}")
