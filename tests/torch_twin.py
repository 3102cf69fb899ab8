"""A minitrain graph evaluated by PyTorch, with autograd: the oracle for whole nets."""

import numpy as np
import torch
import torch.nn.functional as functional
from lookup import Lookup

from minitrain import layers
from minitrain.graph.graph import output_values
from minitrain.layer import Spec


def evaluate(graph, inputs, params, state, training=True):
    """Return the first output of `graph`, as `evaluate_all` does."""
    return next(iter(evaluate_all(graph, inputs, params, state, training).values()))


def evaluate_all(graph, inputs, params, state, training=True):
    """Return the outputs of `graph` by name; the arguments map names to tensors. Running statistics are updated."""
    values = dict(inputs)
    for node in graph.nodes:
        arguments = [values[name] for name in node.inputs]

        def variable(local, node=node):
            name = node.variable(local)
            return params[name] if name in params else state.get(name)

        moves = graph.frozen.isdisjoint(node.variable(name) for name in node.layer.statistics)
        results = _apply(node.layer, arguments, variable, training and moves)
        results = results if isinstance(results, tuple) else (results,)
        declared = node.layer.declare(*(Spec(tuple(each.shape), _dtype(each)) for each in arguments))
        values.update(zip(output_values(node, declared), results, strict=True))
    return {name: values[value] for name, value in graph.outputs.items()}


def _dtype(tensor):
    return None if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")


def _apply(layer, inputs, variable, training):
    x = inputs[0]
    match layer:
        case layers.Conv2d():
            bias = variable("bias") if layer.bias else None
            return functional.conv2d(
                x, variable("weight"), bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
        case layers.WeightStandardizedConv2d():
            weight, bias = variable("weight"), variable("bias") if layer.bias else None
            var, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)
            weight = (weight - mean) / torch.sqrt(var + layer.eps)
            if layer.gain:
                weight = weight * variable("gain")[:, None, None, None]
            return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        case layers.Dense():
            return functional.linear(x, variable("weight"), variable("bias") if layer.bias else None)
        case layers.BatchNorm():
            return _batch_norm(layer, inputs, variable, training)
        case layers.LayerNorm() | layers.RMSNorm():
            return _row_norm(layer, x, variable)
        case layers.GroupNorm():
            gamma, beta = (variable(name) if name in layer.first_values() else None for name in ("gamma", "beta"))
            return functional.group_norm(x, layer.groups, gamma, beta, layer.eps)
        case layers.InstanceNorm():
            gamma, beta = (variable(name) if name in layer.first_values() else None for name in ("gamma", "beta"))
            return functional.instance_norm(x, weight=gamma, bias=beta, eps=layer.eps)
        case layers.FilterResponseNorm():
            gamma, beta, tau = (variable(name).view(-1, *[1] * (x.ndim - 2)) for name in ("gamma", "beta", "tau"))
            mean = x.square().mean(dim=tuple(range(2, x.ndim)), keepdim=True)
            return torch.maximum(gamma * x / torch.sqrt(mean + layer.eps) + beta, tau)
        case layers.ConditionalBatchNorm():
            momentum = layer.momentum
            if momentum is None:
                momentum = 1.0 / max(variable("num_batches").add_(training).item(), 1)
            running = variable("running_mean"), variable("running_var")
            y = functional.batch_norm(x, *running, None, None, training, momentum, layer.eps)
            gamma, beta = (
                variable(name)[inputs[1]].reshape(*x.shape[:2], *[1] * (x.ndim - 2)) for name in ("gamma", "beta")
            )
            return gamma * y + beta
        case layers.ReLU():
            return functional.relu(x)
        case layers.ReLU6():
            return functional.relu6(x)
        case layers.PReLU():
            return functional.prelu(x, variable("weight"))
        case layers.LeakyReLU():
            return functional.leaky_relu(x, layer.negative_slope)
        case layers.Sigmoid():
            return torch.sigmoid(x)
        case layers.SiLU():
            return functional.silu(x)
        case layers.Tanh():
            return torch.tanh(x)
        case layers.MaxPool2d():
            return functional.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding)
        case layers.AvgPool2d():
            return functional.avg_pool2d(
                x, layer.kernel_size, layer.stride, layer.padding, count_include_pad=layer.count_include_pad
            )
        case layers.GlobalAvgPool():
            return x.mean(dim=tuple(range(2, x.ndim)))
        case layers.Flatten():
            return x.flatten(1)
        case layers.Add():
            return sum(inputs[1:], start=x)
        case layers.Concat():
            return torch.cat(inputs, dim=layer.axis)
        case Lookup():
            rows = functional.embedding(x, variable("table"))
            return rows * inputs[1].unsqueeze(1), rows.sum(dim=1)
    raise TypeError(f"no twin of {type(layer).__name__}: add a case for it to _apply in tests/torch_twin.py")


def tensors(variables, requires_grad=False):
    """Copy named arrays into torch tensors."""
    return {name: torch.from_numpy(np.array(value)).requires_grad_(requires_grad) for name, value in variables.items()}


def step(model, x, labels):
    """Return output, mean softmax cross entropy, gradients by name and new state, without touching the model."""
    params, state = tensors(model.params, True), tensors(model.state)
    name = next(iter(model.input_shapes))
    output = evaluate(model.graph, {name: torch.from_numpy(x)}, params, state)
    loss = functional.cross_entropy(output, torch.from_numpy(labels))
    loss.backward()
    gradients = {key: value.grad.numpy() for key, value in params.items()}
    return output.detach().numpy(), loss.item(), gradients, {key: value.numpy() for key, value in state.items()}


def _row_norm(layer, x, variable):
    """Layer or RMS norm along any axes: these last, then back."""
    axes = sorted(axis % x.ndim for axis in layer.axes)
    order = [axis for axis in range(x.ndim) if axis not in axes] + axes
    moved = x.permute(order)
    shape = moved.shape[x.ndim - len(axes) :]
    gamma, beta = (variable(name) if name in layer.first_values() else None for name in ("gamma", "beta"))
    if isinstance(layer, layers.LayerNorm):
        y = functional.layer_norm(moved, shape, gamma, beta, layer.eps)
    else:
        y = functional.rms_norm(moved, shape, gamma, layer.eps)
    return y.permute([order.index(axis) for axis in range(x.ndim)])


def _batch_norm(layer, inputs, variable, training):
    """Batch norm in all of its forms: of what is valid, of ghosts one by one, with running statistics of its own."""
    x, tracks = inputs[0], layer.track_running_stats
    gamma = variable("gamma") if layer.affine else None
    beta = variable("beta") if layer.affine and layer.bias else None
    running = [variable(name) if tracks else None for name in ("running_mean", "running_var")]
    momentum = layer.momentum
    if len(inputs) > 1:
        mask = inputs[1]
        if mask.dtype != torch.bool:
            mask = torch.arange(x.shape[-1]) < mask[:, None]
        packed = _batch_norm(layer, [x.movedim(1, -1)[mask]], variable, training)
        y = torch.zeros_like(x.movedim(1, -1))
        y[mask] = packed
        return y.movedim(-1, 1)
    if tracks and layer.counts:
        count = variable("num_batches").add_(training).item()
    if layer.threshold is not None and training:
        _move_significant(x.detach(), *running, variable("moved_share"), layer, count)
        running = [None, None]
    ghosts = max(len(x) // layer.ghost_size, 1) if layer.ghost_size and training else 1
    parts = [*x[: (ghosts - 1) * (layer.ghost_size or 0)].split(layer.ghost_size or 1)] if ghosts > 1 else []
    results = []
    for part in [*parts, x[(ghosts - 1) * (layer.ghost_size or 0) :]]:
        weight = momentum
        if tracks and (momentum is None or layer.debias):
            count = max(count, 1)
            weight = 1.0 / count if momentum is None else momentum / (1.0 - (1.0 - momentum) ** count)
        results.append(
            functional.batch_norm(part, *running, gamma, beta, training or running[0] is None, weight, layer.eps)
        )
    return torch.cat(results)


def _move_significant(x, mean, var, share, layer, count):
    axes = [axis for axis in range(x.ndim) if axis != 1]
    n = x.numel() // x.shape[1]
    floor = 1.0 if count == 1 else 0.1 * layer.momentum
    errors = (var / n).sqrt(), var * (2 / (n - 1)) ** 0.5
    moved = torch.zeros_like(var, dtype=torch.bool)
    for old, new, error in zip((mean, var), (x.mean(axes), x.var(axes)), errors, strict=True):
        change = new - old
        beyond = functional.softshrink(change / error, layer.threshold) * error
        old += beyond + floor * (change - beyond)
        moved |= beyond != 0
    share[...] = moved.double().mean()
