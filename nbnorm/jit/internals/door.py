"""The one way to what Numba does not promise, and the one way to say that it has changed.

Everything private goes through `private`, so that tests can close it for each name in turn.
"""

import importlib
import warnings
from typing import Any

import numba

__all__ = ["failed", "private", "warn_once"]

WITHOUT = {
    "cache": "compiled kernels are not kept on disk",
    "bitcode": "compiled kernels take more room on disk, and longer to load",
    "linker": "kernels are compiled in Numba's ordinary way, which takes longer",
    "threads": "kernels run on one thread, or a process forked while another thread computes may hang",
}
_failed: set[str] = set()


def private(owner: Any, name: str) -> Any:
    """Return what `owner`, an object or a module by its name, has under this name; fails as Python does."""
    return getattr(importlib.import_module(owner) if isinstance(owner, str) else owner, name)


def warn_once(piece: str, error: BaseException) -> None:
    """Note that a piece of this folder failed, and say what goes without: once in a process for each of them."""
    if piece not in _failed:
        _failed.add(piece)
        message = f"{WITHOUT[piece]}: {type(error).__name__}: {error} (Numba {numba.__version__})"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def failed(piece: str) -> bool:
    """Whether a piece has failed in this process: it is not tried again."""
    return piece in _failed
