"""What is given as data, as arrays: sequences and anything NumPy reads, frames, memory-mapped files."""

from minitrain.arrays.numbers import as_numbers, described, shape_of

__all__ = ["as_numbers", "described", "shape_of"]
