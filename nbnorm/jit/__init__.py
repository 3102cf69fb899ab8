"""How kernels are compiled: what a kernel's source imports from here is all it knows of Numba's settings."""

from nbnorm.jit.dispatch import SERIAL_WORK, Kernel, device, kernel, prange, serially

__all__ = ["SERIAL_WORK", "Kernel", "device", "kernel", "prange", "serially"]
