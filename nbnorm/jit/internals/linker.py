"""The pipeline that kernels are compiled by: ours where Numba is as we know it, Numba's own otherwise.

`NBNORM_OWN_LINKER=0` chooses Numba's own. See `late_library` for what ours does.
"""

import os
from functools import cache
from typing import Any

from nbnorm.jit.internals import door, locks

__all__ = ["compiler_name", "options"]

OWN_LINKER = os.environ.get("NBNORM_OWN_LINKER", "1") != "0"


def compiler_name() -> str:
    """Say whose linker kernels are compiled with now: a part of the cache's key."""
    return "own" if OWN_LINKER and not door.failed("linker") else "numba"


def options() -> dict[str, Any]:
    """Return what to tell `numba.njit` so that kernels are compiled here; nothing where that cannot be."""
    try:
        numbas = door.private("numba.core.compiler", "Compiler")
        for name in ("compile_extra", "define_pipelines"):  # Numba documents them
            getattr(numbas, name)
        return {"pipeline_class": _kernel_compiler(numbas)}
    except Exception as error:
        door.warn_once("linker", error)
        return {}


@cache
def _kernel_compiler(numbas: Any) -> Any:
    class KernelCompiler(numbas):  # type: ignore[misc]
        """Numba's pipeline for a kernel and all that it calls, with libraries that are completed late.

        What fails in it is either the kernel, or this folder because Numba is not as it was. Numba's own pipeline,
        which is tried then, tells which.
        """

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._made_from = args, kwargs

        def compile_extra(self, *args: Any, **kwargs: Any) -> Any:
            try:
                if compiler_name() == "numba":
                    return super().compile_extra(*args, **kwargs)
                try:
                    return self._compile_late(*args, **kwargs)
                except Exception as error:
                    again_args, again_kwargs = self._made_from
                    compiled = numbas(*again_args, **again_kwargs).compile_extra(*args, **kwargs)
                    door.warn_once("linker", error)
                    return compiled
            except BaseException:
                locks.release()
                raise

        def _compile_late(self, *args: Any, **kwargs: Any) -> Any:
            from nbnorm.jit.internals.late_library import late_libraries  # fails where Numba is not as it was

            with late_libraries(door.private(self.state.targetctx, "codegen")()):
                return super().compile_extra(*args, **kwargs)

        def define_pipelines(self) -> Any:
            pipelines = super().define_pipelines()
            if compiler_name() == "own" and self.state.flags.auto_parallel.enabled:
                from nbnorm.jit.internals.late_library import add_bare_parfor_bodies

                add_bare_parfor_bodies(pipelines)
            return pipelines

    return KernelCompiler
