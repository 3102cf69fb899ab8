"""What the checks of `nbnorm.simd` share: who checks which intrinsic, and the arrays they are checked on.

The width of vectors is fixed when `nbnorm.simd` is imported, so that `test_intrinsics.py` runs `program.py` once for
each width. A kernel is compiled in its serial form, once for all that a family of intrinsics does.
"""

import ctypes
import importlib
import mmap
import pkgutil
from collections.abc import Callable, Iterator

import numpy as np

import nbnorm.simd
from nbnorm.jit import kernel
from nbnorm.simd import tiles, vectors
from nbnorm.simd.pooling import halving

DTYPES = (np.float32, np.float64)
PROTECTED = 0  # PROT_NONE: no access at all
CANARY = 77.0  # what memory is filled with that must stay as it is

CHECKS: dict[Callable[[type], None], tuple[str, ...]] = {}


def checks(*names: str):
    """Enter a function of a dtype as the check of these intrinsics."""

    def entered(function):
        CHECKS[function] = names
        return function

    return entered


def compiled(function, suffix: str = ""):
    """Compile it; one that is defined anew for each shape needs a suffix, since kernels are kept by name."""
    function.__qualname__ += suffix
    return kernel(function).serial


def lanes_of(dtype) -> int:
    return vectors.VECTOR_BYTES // np.dtype(dtype).itemsize


def values(dtype, size: int, seed: int = 0) -> np.ndarray:
    """Random numbers of few bits: their products and sums are exact."""
    return (np.random.default_rng(seed).integers(-64, 65, size) / 8).astype(dtype)


def before_forbidden_memory(dtype, size: int) -> np.ndarray:
    """An array behind whose end no memory may be touched: the process would die."""
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    end = ctypes.c_void_p(whole.ctypes.data + mmap.PAGESIZE)
    assert ctypes.CDLL(None).mprotect(end, mmap.PAGESIZE, PROTECTED) == 0
    return whole[: mmap.PAGESIZE].view(dtype)[-size:]


def public_intrinsics() -> Iterator[str]:
    """Names of all intrinsics that kernels may import, and of those of a tile and of halving."""
    kind = type(vectors.load)
    for found in pkgutil.walk_packages(nbnorm.simd.__path__, "nbnorm.simd."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if (isinstance(value, kind) and not name.startswith("_")) or name in ("make_transform",):
                yield name
    yield from (f"tile.{name}" for name in tiles.Tile._fields if name not in ("rows", "columns"))
    yield from (f"halving.{name}" for name in halving.Halving._fields)
