"""Dense (fully connected) layer: y = x @ weight.T + bias, and its gradients. See `product`."""

from minitrain.kernels.dense.product import backward, forward
from minitrain.kernels.dense.tiles import SCRATCH

__all__ = ["SCRATCH", "backward", "forward"]
