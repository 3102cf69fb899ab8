"""A minitrain model as the Keras model that a user would have written, channels last, with weights of its own."""

from __future__ import annotations

from typing import Any

from minitrain import Model, layers

__all__ = ["keras_net"]


def keras_net(model: Model) -> Any:
    """Return the functional model of the same layers; Keras's backend must have been chosen."""
    import keras

    (name,), (shape,) = model.input_shapes, model.input_shapes.values()
    values = {name: keras.Input(shape if len(shape) == 1 else (*shape[1:], shape[0]))}
    source = values[name]
    for node in model.graph.nodes:
        values[node.name] = _apply(node.layer, [values[each] for each in node.inputs])
    return keras.Model(source, values[next(iter(model.graph.outputs.values()))])


def _apply(layer: layers.Layer, inputs: list[Any]) -> Any:
    from keras import layers as theirs

    x = inputs[0]
    match layer:
        case layers.Conv2d():
            return _convolve(layer, x)
        case layers.Dense():
            return theirs.Dense(layer.out_features, use_bias=layer.bias)(x)
        case layers.BatchNorm():
            return theirs.BatchNormalization(momentum=1 - layer.momentum, epsilon=layer.eps)(x)
        case layers.ReLU():
            return theirs.ReLU()(x)
        case layers.ReLU6():
            return theirs.ReLU(6.0)(x)
        case layers.Sigmoid():
            return theirs.Activation("sigmoid")(x)
        case layers.MaxPool2d():
            return theirs.MaxPooling2D(layer.kernel_size, layer.stride)(_padded(layer.padding, x, -3e38))
        case layers.AvgPool2d():
            return theirs.AveragePooling2D(layer.kernel_size, layer.stride)(_padded(layer.padding, x))
        case layers.GlobalAvgPool():
            return theirs.GlobalAveragePooling2D()(x)
        case layers.Flatten():
            return theirs.Flatten()(x)
        case layers.Add():
            return theirs.Add()(inputs)
        case layers.Concat():
            return theirs.Concatenate()(inputs)
    raise TypeError(f"no Keras layer for {layer}")


def _convolve(layer: layers.Conv2d, x: Any) -> Any:
    from keras import layers as theirs

    same = layer.stride == (1, 1) and all(2 * p == k - 1 for p, k in zip(layer.padding, layer.kernel_size, strict=True))
    x = x if same else _padded(layer.padding, x)
    settings = {"strides": layer.stride, "padding": "same" if same else "valid", "use_bias": layer.bias}
    if layer.groups == x.shape[-1] == layer.out_channels:
        return theirs.DepthwiseConv2D(layer.kernel_size, **settings)(x)
    return theirs.Conv2D(layer.out_channels, layer.kernel_size, groups=layer.groups, **settings)(x)


def _padded(padding: tuple[int, int], x: Any, value: float = 0.0) -> Any:
    """Pad a plane on both sides, as layers with steps of two need it; Keras's own "same" pads on one side."""
    import keras

    if padding == (0, 0):
        return x
    rows, columns = padding
    if value == 0:
        return keras.layers.ZeroPadding2D(padding)(x)
    widths = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    return keras.ops.pad(x, widths, constant_values=value)
