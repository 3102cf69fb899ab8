"""Experiments that show what batch normalization does: each a module with a `run`, its settings and its figures."""
