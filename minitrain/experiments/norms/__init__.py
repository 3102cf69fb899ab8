"""The norms and the forms of batch norm beside each other: `minitrain norms`."""

from minitrain.experiments.norms.norms import run

__all__ = ["run"]
