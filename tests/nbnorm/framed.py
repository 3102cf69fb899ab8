"""Arrays whose surroundings show whether anything was written beside them."""

import numpy as np

CANARY = -12345.0


def framed(shape, dtype, offset):
    """An array of NaN inside a larger one that holds a canary; and that larger one."""
    size = int(np.prod(shape))
    memory = np.full(size + 200, CANARY, dtype)
    inside = memory[100 + offset : 100 + offset + size].reshape(shape)
    inside[...] = np.nan
    return inside, memory


def intact(memory, size, offset):
    return (memory[: 100 + offset] == CANARY).all() and (memory[100 + offset + size :] == CANARY).all()
