"""A shorter way from a kernel to machine code: what it calls is linked, optimized and emitted with it, once.

Numba makes a library of every function, optimizes it, emits machine code, and links a copy into the library of each
caller, which is optimized and emitted in turn: a helper three calls deep goes that way four times. Of all this a kernel
needs the last step. Here the libraries of what a kernel calls stay as they were written until the kernel is complete.
Numba's pull request 9566 is about the same waste.

It concerns only what is compiled for one of our kernels, by their own pipeline; other functions of the process are
compiled as ever. Importing this fails where Numba has not what it needs; a library that cannot be completed in this way
is completed in Numba's.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from nbnorm.jit.internals import door
from nbnorm.jit.internals.door import private

__all__ = ["LateLibrary", "add_bare_parfor_bodies", "late_libraries"]

ENVIRONMENT = "_ZN08NumbaEnv"  # what the names of variables begin with that hold the Python objects of a function

JITCodeLibrary = private("numba.core.codegen", "JITCodeLibrary")
FunctionPass = private("numba.core.compiler_machinery", "FunctionPass")
register_pass = private("numba.core.compiler_machinery", "register_pass")
Parfor = private("numba.parfors.parfor", "Parfor")
ParforPreLoweringPass = private("numba.core.typed_passes", "ParforPreLoweringPass")
lookup_environment = private("numba.core.environment", "lookup_environment")


class LateLibrary(JITCodeLibrary):  # type: ignore[misc, valid-type]
    """Code that stays as it was written until somebody asks for the address of a function of it.

    That is so for kernels, which Python calls. Numba's own functions that were compiled for a kernel may be called by
    a user's function later: it gets them complete, as from any other library.
    """

    _complete = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._finalize_with: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self._set_later: list[tuple[Any, ...]] = []

    def finalize(self, *args: Any, **kwargs: Any) -> None:
        """Take it for finalized; `_make_complete` does the work."""
        self._finalize_with = args, kwargs
        self._finalized = True

    def get_pointer_to_function(self, name: str, *more: Any) -> int:
        if not self._complete:
            if name not in _defined(private(self, "_final_module")):
                return 0
            self._make_complete()
        return int(super().get_pointer_to_function(name, *more))

    @property
    def codegen(self) -> Any:
        """The code generator, but this object instead of it before there is code: it is asked for `set_env` only."""
        return super().codegen if self._complete else self

    def set_env(self, *call: Any) -> None:
        """Note what is to be done when there is code."""
        self._set_later.append(call)

    def _optimize_functions(self, *_: Any) -> None:
        """Leave them: everything is optimized together in the end."""

    def _get_module_for_linking(self, *args: Any) -> Any:
        self._make_complete()
        return super()._get_module_for_linking(*args)

    def _make_complete(self) -> None:
        if self._complete:
            return
        written = None
        if not door.failed("linker"):
            try:
                written = private(self, "_final_module").clone()
                self._link_and_emit()
                self._complete = True
                return
            except Exception as error:
                door.warn_once("linker", error)
        self._complete_as_numba_does(written)

    def _complete_as_numba_does(self, written: Any) -> None:
        """Do late what Numba does at once; `written` is the code before somebody tried otherwise."""
        if written is not None:
            self._final_module = written
        self._finalized = False
        args, kwargs = self._finalize_with
        super().finalize(*args, **kwargs)
        self._complete = True
        for call in self._set_later:
            super().codegen.set_env(*call)

    def _link_and_emit(self) -> None:
        """Do for the whole kernel what Numba does for each function of it."""
        module = private(self, "_final_module")
        _relink(module, "weak_odr", "external")
        exported = _defined(module)
        own_environments = {variable.name for variable in module.global_variables}
        late, others = self._needed()
        for library in late:
            callee = private(library, "_final_module")
            _relink(callee, "external", "weak_odr")  # several modules define Numba's own small helpers
            module.link_in(callee, preserve=True)
        for library in others:  # after their callers: of these, only what somebody has called so far is linked
            module.link_in(private(library, "_get_module_for_linking")(), preserve=True)
        if hasattr(self, "_reload_init"):  # what must run before code from the cache; a library has it since Numba 0.63
            private(self, "_reload_init").update(*(private(library, "_reload_init") for library in (*late, *others)))
        for function in module.functions:
            if not function.is_declaration and function.name not in exported:
                function.linkage = "internal"  # then nothing remains of what is inlined everywhere
        for variable in module.global_variables:
            if variable.name.startswith(ENVIRONMENT) and variable.name not in own_environments:
                variable.linkage = "linkonce_any"  # likewise: a loaded kernel would import the modules of all of them
        private(self, "_optimize_final_module")()
        module = private(self, "_final_module")
        module.verify()
        environments = _environments(module)
        self._finalized = False
        private(self, "_finalize_final_module")()
        if not self._finalized:
            raise RuntimeError("Numba did not make machine code")
        for environment in environments:
            super().codegen.set_env(environment.env_name, environment)

    def _needed(self) -> tuple[list[Any], list[Any]]:
        """Libraries that are called from here, directly or not: those that stayed as they were, and the others."""
        late: dict[Any, None] = {}  # as an ordered set
        others: dict[Any, None] = {}
        waiting = list(private(self, "_linking_libraries"))
        while waiting:
            library = waiting.pop()
            if not isinstance(library, LateLibrary) or library._complete:
                others[library] = None
            elif library not in late and library is not self:
                late[library] = None
                waiting.extend(private(library, "_linking_libraries"))
        return list(late), list(others)


def _environments(module: Any) -> list[Any]:
    """Return the Python objects of all functions of a module that are in memory; others come with what has them."""
    found = []
    for variable in module.global_variables:
        environment = lookup_environment(variable.name) if variable.name.startswith(ENVIRONMENT) else None
        if environment is not None:
            if environment.env_name != variable.name:
                raise ValueError(f"Numba gave {environment!r} for {variable.name}")
            found.append(environment)
    return found


def _defined(module: Any) -> set[str]:
    return {function.name for function in module.functions if not function.is_declaration}


def _relink(module: Any, before: str, after: str) -> None:
    for function in module.functions:
        if not function.is_declaration and function.linkage.name == before:
            function.linkage = after


@contextlib.contextmanager
def late_libraries(codegen: Any) -> Iterator[None]:
    """Make what is compiled within the block late; the caller holds Numba's lock, so it is one of our kernels."""
    before = private(codegen, "_library_class")
    if before not in (JITCodeLibrary, LateLibrary):
        raise TypeError(f"Numba makes libraries of another kind, {before!r}")
    codegen._library_class = LateLibrary
    try:
        yield
    finally:
        codegen._library_class = before


@register_pass(mutates_CFG=False, analysis_only=False)
class _BareParforBodies(FunctionPass):  # type: ignore[misc, valid-type]
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


def add_bare_parfor_bodies(pipelines: Any) -> None:
    """Put the pass above into pipelines that have not begun, at Numba's documented place for it."""
    for pipeline in pipelines:
        pipeline.add_pass_after(_BareParforBodies, ParforPreLoweringPass)
        pipeline.finalize()
