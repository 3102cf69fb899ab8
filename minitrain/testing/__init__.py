"""Hold a layer against the contract of `minitrain.layer`: `minitrain.testing.check_layer(MyLayer)`."""

from minitrain.testing.bound_layer import BoundLayer
from minitrain.testing.check_layer import check_layer

__all__ = ["BoundLayer", "check_layer"]
