"""The signatures that kernels would be compiled in: nothing is compiled, and no kernel runs."""

import sys
from collections import defaultdict

import numba
import pytest
from numba import types

from nbnorm.jit import Kernel, dispatch

__all__ = ["differ_only_in_shape", "recorded"]


class recorded:
    """Within the block calls of kernels only note their signatures: the value, by dispatcher.

    What was bound to a serial form before the block runs all the same.
    """

    def __enter__(self):
        self.signatures = defaultdict(set)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(dispatch, "_compile_for", self._note)
        self.patch.setattr(dispatch._mode, "compiles_only", True)
        for module in [module for name, module in sys.modules.items() if name.startswith(("nbnorm.", "minitrain."))]:
            for kernel in [each for each in vars(module).values() if isinstance(each, Kernel)]:
                if not isinstance(kernel.serial, _Noting):
                    self.patch.setattr(kernel, "serial", _Noting(self._note, kernel.serial))
        dispatch._changed()
        return self.signatures

    def __exit__(self, *_):
        self.patch.undo()
        dispatch._changed()

    def _note(self, form, *args):
        form = form.form if isinstance(form, _Noting) else form
        self.signatures[form].add(tuple(numba.typeof(value) for value in args))


class _Noting:
    """A serial form that is not called but noted."""

    def __init__(self, note, form):
        self.note, self.form = note, form

    def __call__(self, *args):
        self.note(self.form, *args)


def differ_only_in_shape(signatures):
    """Pairs of signatures whose arrays have the same dtypes: a kernel is compiled twice for the same work."""
    known = {}
    for signature in signatures:
        other = known.setdefault(tuple(map(_without_shape, signature)), signature)
        if other != signature:
            yield other, signature


def _without_shape(kind):
    if isinstance(kind, types.Array):
        return kind.dtype
    return tuple(map(_without_shape, kind)) if isinstance(kind, types.BaseTuple) else kind
