"""One layer beside the same function in PyTorch with autograd, in float64."""

import numpy as np
import torch

from minitrain.testing import BoundLayer

TOLERANCE = 1e-10


def agrees(layer, shapes, function, seed=0):
    """Outputs and all gradients of `layer` equal those of `function(*xs, **params)`; returns the bound layer."""
    bound = BoundLayer(layer, shapes, seed=seed)
    xs = [torch.tensor(x, requires_grad=True) for x in bound.groups["inputs"].values()]
    params = {name: torch.tensor(p, requires_grad=True) for name, p in bound.groups["params"].items()}
    expected = function(*xs, **params)
    y = bound.forward()["y"]
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y, expected.detach(), rtol=TOLERANCE, atol=TOLERANCE)
    expected.backward(torch.tensor(bound.groups["output_gradients"]["dy"]))
    gradients = bound.backward()
    for name, tensor in {**{f"x{i}": x for i, x in enumerate(xs)}, **params}.items():
        np.testing.assert_allclose(gradients["d" + name], tensor.grad, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    return bound
