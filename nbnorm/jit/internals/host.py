"""What compiles, and for which processor."""

import llvmlite
import llvmlite.binding

__all__ = ["llvmlite_version", "processor"]


def llvmlite_version() -> str:
    """Version of the package that Numba reaches LLVM by."""
    return str(llvmlite.__version__)


def processor() -> str:
    """LLVM's name of this processor."""
    return str(llvmlite.binding.get_host_cpu_name())
