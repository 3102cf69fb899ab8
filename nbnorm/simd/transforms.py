"""Linear transforms of small squares of vectors, T X T^T, as straight-line code.

The rules on arrays are those of `vectors`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbnorm.simd.vectors import emit_call, emit_load, emit_store, pointer_to, vector_of

__all__ = ["Arithmetic", "make_transform"]


class Arithmetic:
    """What a line of a transform may do with vectors, while the code of it is written; factors are numbers."""

    def __init__(self, builder: Any, vector: Any) -> None:
        self._builder, self._vector = builder, vector

    def _factor(self, number: float) -> Any:
        return ir.Constant(self._vector.llvm, [float(number)] * self._vector.lanes)

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self._builder.fadd(a, b)

    def subtract(self, a: Any, b: Any) -> Any:
        """Return a - b."""
        return self._builder.fsub(a, b)

    def multiply(self, factor: float, a: Any) -> Any:
        """Return factor * a."""
        return self._builder.fmul(self._factor(factor), a)

    def fma(self, factor: float, a: Any, b: Any) -> Any:
        """Return factor * a + b, rounded once."""
        return emit_call(self._builder, self._vector, "llvm.fma", self._factor(factor), a, b)


Line = Callable[[Arithmetic, Sequence[Any]], Sequence[Any]]


def make_transform(line: Line, size: int, last: Callable[..., Sequence[Any]] | None = None, passes: int = 1) -> Any:
    """Make the intrinsic of a transform of squares of `size` x `size` vectors, given what it does with `size` of them.

    The intrinsic is `(source, at, row, column, target, to, target_row, target_column)`: element (i, j) of the square is
    the vector at source[at + i * row + j * column:], and likewise in the target, of as many rows and columns as `line`
    returns values. The columns are transformed first. `last`, if given, does it for the rows, and takes one more
    argument: a vector, which the intrinsic then takes, too, at the end.

    Where the vectors between the two transforms are more than registers, it is better made in several `passes`, each
    for some rows of the result, which read the source again (so the target must not overlap it); what a pass does not
    need is not computed.

    Numba would need a second for what this writes in milliseconds.
    """

    def codegen(context, builder, signature, args):
        source, at, row, column, target, to, target_row, target_column, *more = args
        vector = vector_of(signature.args[0].dtype)
        do = Arithmetic(builder, vector)
        first = pointer_to(context, builder, signature.args[0], source, at)
        result = pointer_to(context, builder, signature.args[4], target, to)

        def places(start, step, count):
            """Return `count` pointers, `step` values apart."""
            return [builder.gep(start, [builder.mul(step, step.type(k))]) for k in range(count)]

        for part in range(passes):
            columns = []
            for start in places(first, column, size):
                columns.append(line(do, [emit_load(builder, vector, place) for place in places(start, row, size)]))
            count = len(columns[0])
            rows = list(enumerate(places(result, target_row, count)))
            for i, start in rows[part * count // passes : (part + 1) * count // passes]:
                values = [each[i] for each in columns]
                values = line(do, values) if last is None else last(do, values, *more)
                for value, place in zip(values, places(start, target_column, count), strict=True):
                    emit_store(builder, vector, value, place)
        return context.get_dummy_value()

    index = types.intp
    if last is None:

        @intrinsic
        def transform(typing_context, source, at, row, column, target, to, target_row, target_column):
            return types.void(source, index, index, index, target, index, index, index), codegen
    else:

        @intrinsic
        def transform(typing_context, source, at, row, column, target, to, target_row, target_column, vector):
            return types.void(source, index, index, index, target, index, index, index, vector), codegen

    return transform
