"""A shorter way from a kernel to machine code: what it calls is linked, optimized and emitted with it, once.

Numba makes a library of every function, optimizes it, emits machine code, and links a copy into the library of each
caller, which is optimized and emitted in turn: a helper three calls deep goes that way four times. Of all this a kernel
needs the last step. Here the libraries of what a kernel calls stay as they were written until the kernel is complete.

It concerns only what is compiled for one of our kernels, by their own pipeline; other functions of the process are
compiled as ever. Numba's internals that it needs are looked for when this module is imported: without them the import
fails, and kernels are compiled in the ordinary way.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.environment import lookup_environment
from numba.core.typed_passes import ParforPreLoweringPass
from numba.parfors.parfor import Parfor

from nbnorm.jit.internals.cache import release

__all__ = ["KernelCompiler"]

ENVIRONMENT = "_ZN08NumbaEnv"  # what the names of variables begin with that hold the Python objects of a function
INTERNALS = (
    "_raise_if_finalized", "_ensure_finalized", "_optimize_functions", "_optimize_final_module",
    "_finalize_final_module", "_get_module_for_linking",
)  # fmt: skip

if JITCPUCodegen._library_class is not JITCodeLibrary or not all(hasattr(JITCodeLibrary, name) for name in INTERNALS):
    raise ImportError("this version of Numba has other internals")


class LateLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that stays as it was written until somebody asks for the address of a function of it.

    That is so for kernels, which Python calls. Numba's own functions that were compiled for a kernel may be called by
    a user's function later: it gets them complete, as from any other library.
    """

    _complete = False

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        if not self._complete:
            if name not in _defined(self._final_module):
                return 0
            self._make_complete()
        return int(super().get_pointer_to_function(name))

    @property
    def codegen(self) -> Any:
        """The code generator, but this object instead of it before there is code: it is asked for `set_env` only."""
        return self._codegen if self._complete else self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: `_make_complete` sets all of them."""

    def _optimize_functions(self, module: Any) -> None:
        """Leave them: everything is optimized together in the end."""

    def _get_module_for_linking(self) -> Any:
        self._make_complete()
        return super()._get_module_for_linking()

    def _make_complete(self) -> None:
        if self._complete:
            return
        self._ensure_finalized()
        module = self._final_module
        _relink(module, "weak_odr", "external")
        exported = _defined(module)
        own_environments = {variable.name for variable in module.global_variables}
        late, others = self._needed()
        for library in late:
            _relink(library._final_module, "external", "weak_odr")  # several modules define Numba's own small helpers
            module.link_in(library._final_module, preserve=True)
        for library in others:  # after their callers: of these, only what somebody has called so far is linked
            module.link_in(library._get_module_for_linking(), preserve=True)
        if hasattr(self, "_reload_init"):  # what must run before code from the cache; not in older Numbas
            self._reload_init.update(*(library._reload_init for library in (*late, *others)))
        for function in module.functions:
            if not function.is_declaration and function.name not in exported:
                function.linkage = "internal"  # then nothing remains of what is inlined everywhere
        for variable in module.global_variables:
            if variable.name.startswith(ENVIRONMENT) and variable.name not in own_environments:
                variable.linkage = "linkonce_any"  # likewise: a loaded kernel would import the modules of all of them
        self._complete = True
        self._optimize_final_module()
        module.verify()
        self._finalize_final_module()
        for variable in module.global_variables:
            environment = lookup_environment(variable.name) if variable.name.startswith(ENVIRONMENT) else None
            if environment is not None:
                self._codegen.set_env(variable.name, environment)

    def _needed(self) -> tuple[list[Any], list[Any]]:
        """Libraries that are called from here, directly or not: those that stayed as they were, and the others."""
        late: dict[Any, None] = {}  # as an ordered set
        others: dict[Any, None] = {}
        waiting = list(self._linking_libraries)
        while waiting:
            library = waiting.pop()
            if not isinstance(library, LateLibrary) or library._complete:
                others[library] = None
            elif library not in late and library is not self:
                late[library] = None
                waiting.extend(library._linking_libraries)
        return list(late), list(others)


def _defined(module: Any) -> set[str]:
    return {function.name for function in module.functions if not function.is_declaration}


def _relink(module: Any, before: str, after: str) -> None:
    for function in module.functions:
        if not function.is_declaration and function.linkage.name == before:
            function.linkage = after


@contextlib.contextmanager
def _late_libraries(codegen: Any) -> Iterator[None]:
    """Make what is compiled within the block late; the caller holds Numba's lock, so it is one of our kernels."""
    before = codegen._library_class
    codegen._library_class = LateLibrary
    try:
        yield
    finally:
        codegen._library_class = before


@register_pass(mutates_CFG=False, analysis_only=False)
class _BareParforBodies(FunctionPass):  # type: ignore[misc]
    """Compile the body of a parallel loop, which is a function, without the wrapper that Python would call it by."""

    _name = "nbnorm_bare_parfor_bodies"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            for statement in block.body:
                if isinstance(statement, Parfor):
                    statement.flags = statement.flags.copy()
                    statement.flags.no_cpython_wrapper = True
        return False


class KernelCompiler(Compiler):  # type: ignore[misc]
    """Numba's pipeline for a kernel and all that it calls."""

    def compile_extra(self, func: Any) -> Any:
        with _late_libraries(self.state.targetctx.codegen()):
            try:
                return super().compile_extra(func)
            except BaseException:
                release()
                raise

    def define_pipelines(self) -> Any:
        pipelines = super().define_pipelines()
        if self.state.flags.auto_parallel.enabled:
            for pipeline in pipelines:
                pipeline.add_pass_after(_BareParforBodies, ParforPreLoweringPass)
                pipeline.finalize()
        return pipelines
