"""What batch normalization does for the training of deep nets: `minitrain stability`."""

from minitrain.experiments.stability.stability import run

__all__ = ["run"]
