"""What is kept: a graph with its parameters and state, and the file that holds them."""

from minitrain.model.model import Model

__all__ = ["Model"]
