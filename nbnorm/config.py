"""What this machine and process compute with."""

import os
import platform
import time

import numba
import numpy as np

from nbnorm.jit.internals.cache import cache_folder
from nbnorm.jit.internals.host import llvmlite_version, processor
from nbnorm.jit.internals.load import read_load
from nbnorm.jit.internals.quota import cpu_quota
from nbnorm.jit.sharing import ENABLED, INTERVAL
from nbnorm.simd.vectors import LANES_FLOAT32, LANES_FLOAT64, VECTOR_BYTES

__all__ = ["show_config"]


def show_config() -> None:
    """Print versions, threading layer, threads, SIMD width and cache folder.

    Examples
    --------
    >>> import nbnorm
    >>> nbnorm.show_config()  # doctest: +ELLIPSIS
    python ...
    """
    lines = {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "numba": f"{numba.__version__} (llvmlite {llvmlite_version()}), numpy {np.__version__}",
        "processor": processor(),
        "vectors": f"{VECTOR_BYTES * 8} bits: {LANES_FLOAT32} float32, {LANES_FLOAT64} float64",
        "threads": _threads(),
        "threading": _threading_layer(),
        "cache": str(cache_folder()),
    }
    for name, text in lines.items():
        print(f"{name:<10} {text}")


def _threads() -> str:
    """How many run at most, and why not more: the affinity, a container's quota, NUMBA_NUM_THREADS, other programs."""
    text = f"{numba.get_num_threads()} of {os.cpu_count()}"
    quota = cpu_quota()
    if quota is not None:
        text += f" (quota of the container: {quota:g} cores)"
    if not ENABLED:
        return f"{text}, however busy other programs are (NBNORM_SHARE_CORES=0)"
    before = read_load()
    time.sleep(INTERVAL)
    now = read_load()
    return text if before is None or now is None else f"{text}, {now.free_cores(before):.1f} cores free now"


def _threading_layer() -> str:
    try:
        return str(numba.threading_layer())
    except ValueError:  # Numba chooses when the first parallel kernel runs
        return f"{numba.config.THREADING_LAYER}, not started yet"
