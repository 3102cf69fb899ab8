"""Views of arrays that layers share."""

from __future__ import annotations

import math

import numpy as np


def as_3d(a: np.ndarray) -> np.ndarray:
    """View (N, C, *spatial) as (N, C, L)."""
    return a.reshape(a.shape[0], a.shape[1], math.prod(a.shape[2:]))
