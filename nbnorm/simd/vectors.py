"""SIMD vectors as Numba values: one intrinsic for each operation, the same for float32 and float64.

A vector has as many lanes as fit in `VECTOR_BYTES`, the width of the host's registers. All functions are called from
kernels only. Arrays are one-dimensional and contiguous; loads and stores need no alignment and check no bounds.
"""

import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTHS = (16, 32, 64)


def _host_vector_bytes() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def _vector_bytes() -> int:
    """Width of the host's registers in bytes, or `NBNORM_VECTOR_BYTES` (16, 32 or 64) where it is set."""
    chosen = os.environ.get("NBNORM_VECTOR_BYTES")
    if chosen is None:
        return _host_vector_bytes()
    if chosen not in map(str, WIDTHS):
        raise ValueError(f"NBNORM_VECTOR_BYTES: expected one of {WIDTHS}, got {chosen!r}")
    return int(chosen)


VECTOR_BYTES = _vector_bytes()
LANES_FLOAT32 = VECTOR_BYTES // 4
LANES_FLOAT64 = VECTOR_BYTES // 8

INDEX = ir.IntType(64)
_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class VectorType(types.Type):  # type: ignore[misc]
    """A vector of `lanes` values of a Numba float type."""

    def __init__(self, scalar: types.Float, lanes: int) -> None:
        self.scalar = scalar
        self.lanes = lanes
        super().__init__(name=f"vector({scalar} x {lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(_SCALARS[self.scalar], self.lanes)

    @property
    def suffix(self) -> str:
        """Suffix of LLVM's overloaded intrinsics."""
        return f"v{self.lanes}f{self.scalar.bitwidth}"


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm)


def vector_of(scalar: types.Float) -> VectorType:
    """The full-width vector type of a Numba float type."""
    return VectorType(scalar, VECTOR_BYTES * 8 // scalar.bitwidth)


# ------------------------------------------------------- pieces of code generation, also used by the register tiles


def pointer_to(context, builder, array_type, array, index):
    """Pointer to element `index` of a one-dimensional contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def emit_load(builder, vector: VectorType, pointer):
    value = builder.load(builder.bitcast(pointer, vector.llvm.as_pointer()))
    value.align = vector.scalar.bitwidth // 8
    return value


def emit_store(builder, vector: VectorType, value, pointer) -> None:
    builder.store(value, builder.bitcast(pointer, vector.llvm.as_pointer())).align = vector.scalar.bitwidth // 8


def emit_splat(builder, vector: VectorType, scalar):
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, undefined, lanes)


def emit_call(builder, vector: VectorType, name: str, *args):
    """Call an LLVM intrinsic that maps vectors to a vector, such as "llvm.fma"."""
    signature = ir.FunctionType(vector.llvm, [vector.llvm] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, f"{name}.{vector.suffix}"), args)


def zero_constant(vector: VectorType):
    return ir.Constant(vector.llvm, [0.0] * vector.lanes)


# ------------------------------------------------------------------------------------------------ functions of kernels


@intrinsic
def load(typing_context, array, index):
    """array[index : index + lanes]"""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        return emit_load(builder, vector, pointer_to(context, builder, signature.args[0], *args))

    return vector(array, types.intp), codegen


@intrinsic
def store(typing_context, array, index, value):
    """array[index : index + lanes] = value"""

    def codegen(context, builder, signature, args):
        target, at, vector = args
        emit_store(builder, value, vector, pointer_to(context, builder, signature.args[0], target, at))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def splat(typing_context, scalar):
    """A vector with `scalar` (float32 or float64) in every lane."""
    vector = vector_of(scalar)

    def codegen(context, builder, signature, args):
        return emit_splat(builder, vector, args[0])

    return vector(scalar), codegen


def elementwise(emit, arity: int):
    """An intrinsic from vectors of one type to a vector of that type."""
    if arity == 2:

        @intrinsic
        def operation(typing_context, a, b):
            return a(a, b), lambda context, builder, signature, args: emit(builder, a, *args)
    else:

        @intrinsic
        def operation(typing_context, a, b, c):
            return a(a, b, c), lambda context, builder, signature, args: emit(builder, a, *args)

    return operation


add = elementwise(lambda builder, vector, a, b: builder.fadd(a, b), 2)
subtract = elementwise(lambda builder, vector, a, b: builder.fsub(a, b), 2)
multiply = elementwise(lambda builder, vector, a, b: builder.fmul(a, b), 2)
fma = elementwise(lambda builder, vector, a, b, c: emit_call(builder, vector, "llvm.fma", a, b, c), 3)


# ------------------------------------------------------------------------------------------------ facts about arrays


def _borrow(context, builder, source, array, dtype, items, shape, strides):
    """A view of memory that nothing counts as a reference to its owner."""
    view = context.make_array(array)(context, builder)
    view.data = builder.bitcast(source.data, view.data.type)
    view.nitems, view.itemsize = items, INDEX(dtype.bitwidth // 8)
    view.shape, view.strides = shape, strides
    view.meminfo = cgutils.get_null_value(view.meminfo.type)
    view.parent = cgutils.get_null_value(view.parent.type)
    return view._getvalue()


@intrinsic
def borrowed(typing_context, array):
    """The same array, not counted as a reference to its memory.

    Counting references is an atomic operation for each call of a helper, and many threads would do it in one place.
    Whoever called the kernel holds the memory.
    """

    def codegen(context, builder, signature, args):
        source = context.make_array(array)(context, builder, args[0])
        return _borrow(context, builder, source, array, array.dtype, source.nitems, source.shape, source.strides)

    return array(array), codegen


@intrinsic
def flat(typing_context, array):
    """The elements of a C-contiguous array as one row, borrowed."""
    row = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        source = context.make_array(array)(context, builder, args[0])
        shape, strides = (cgutils.pack_array(builder, [v]) for v in (source.nitems, INDEX(array.dtype.bitwidth // 8)))
        return _borrow(context, builder, source, row, array.dtype, source.nitems, shape, strides)

    return row(array), codegen


@intrinsic
def reinterpreted(typing_context, wide, array):
    """The memory of a row of float64 as a row of the type of `array`, borrowed."""
    row = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        source = context.make_array(wide)(context, builder, args[0])
        items = builder.mul(source.nitems, INDEX(64 // array.dtype.bitwidth))
        shape, strides = (cgutils.pack_array(builder, [v]) for v in (items, INDEX(array.dtype.bitwidth // 8)))
        return _borrow(context, builder, source, row, array.dtype, items, shape, strides)

    return row(wide, array), codegen


@intrinsic
def lanes_of(typing_context, array):
    """Lanes of a vector of this array's type, known to the compiler."""

    def codegen(context, builder, signature, args):
        return INDEX(vector_of(array.dtype).lanes)

    return types.intp(array), codegen
