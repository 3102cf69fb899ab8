"""SIMD vectors as Numba values: one intrinsic for each operation, the same for float32 and float64.

A vector has as many lanes as fit in `VECTOR_BYTES`, the width of the host's registers: one operation becomes one
instruction. Names of instructions in the docstrings are those of AVX and AVX-512, without their suffix for the type
(vaddps, vaddpd: vadd); elsewhere LLVM takes what the machine has. All functions are called from kernels only. Arrays
are one-dimensional and contiguous; loads and stores need no alignment and check no bounds.
"""

import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTHS = (16, 32, 64)  # bytes of a register: SSE and NEON, AVX2, AVX-512


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
INT32 = ir.IntType(32)
_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class VectorType(types.Type):  # type: ignore[misc]
    """A vector of `lanes` values of a Numba float type."""

    def __init__(self, scalar: types.Float, lanes: int) -> None:
        self.scalar = scalar
        self.lanes = lanes
        super().__init__(name=f"vector({scalar} x {lanes})")

    @property
    def bytes(self) -> int:
        """Size of one value."""
        return int(self.scalar.bitwidth) // 8

    @property
    def llvm(self) -> ir.VectorType:
        """The type in LLVM's code."""
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
    """Return the vector type that fills a register with values of a Numba float type."""
    return VectorType(scalar, VECTOR_BYTES * 8 // scalar.bitwidth)


# ---------------------------------------------------------- pieces of code generation, also used by the other modules


def pointer_to(context, builder, array_type, array, index):
    """Pointer to element `index` of a one-dimensional contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def emit_load(builder, vector: VectorType, pointer):
    """Load all lanes from a pointer of any alignment."""
    value = builder.load(builder.bitcast(pointer, vector.llvm.as_pointer()))
    value.align = vector.bytes
    return value


def emit_store(builder, vector: VectorType, value, pointer) -> None:
    """Store all lanes at a pointer of any alignment."""
    builder.store(value, builder.bitcast(pointer, vector.llvm.as_pointer())).align = vector.bytes


def emit_splat(builder, vector: ir.VectorType, scalar):
    """LLVM vector with this scalar in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count))


def emit_call(builder, vector: VectorType, name: str, *args):
    """Call an LLVM intrinsic that maps vectors to a vector, such as "llvm.fma"."""
    signature = ir.FunctionType(vector.llvm, [vector.llvm] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, f"{name}.{vector.suffix}"), args)


def zero_constant(vector: VectorType):
    """The constant with 0 in every lane."""
    return ir.Constant(vector.llvm, [0.0] * vector.lanes)


# ------------------------------------------------------------------------------------------------ functions of kernels


@intrinsic
def load(typing_context, array, index):
    """array[index : index + lanes] (vmovu)."""
    vector = vector_of(array.dtype)

    def codegen(context, builder, signature, args):
        return emit_load(builder, vector, pointer_to(context, builder, signature.args[0], *args))

    return vector(array, types.intp), codegen


@intrinsic
def store(typing_context, array, index, value):
    """array[index : index + lanes] = value (vmovu)."""

    def codegen(context, builder, signature, args):
        array, index, lanes = args
        emit_store(builder, value, lanes, pointer_to(context, builder, signature.args[0], array, index))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def splat(typing_context, scalar):
    """A vector with `scalar` (float32 or float64) in every lane (vbroadcast)."""
    vector = vector_of(scalar)

    def codegen(context, builder, signature, args):
        return emit_splat(builder, vector.llvm, args[0])

    return vector(scalar), codegen


@intrinsic
def zero_like(typing_context, value):
    """0 of the type of `value`, a vector or a number (vxor): what a sum of such values starts from."""
    return value(value), lambda context, builder, signature, args: cgutils.get_null_value(args[0].type)


@intrinsic
def lanes_of(typing_context, array):
    """Lanes of a vector of this array's type: a constant to the compiler, no instruction."""

    def codegen(context, builder, signature, args):
        return INDEX(vector_of(array.dtype).lanes)

    return types.intp(array), codegen


# ------------------------------------------------------------------------- arithmetic, lane by lane, of vectors alike


@intrinsic
def add(typing_context, a, b):
    """Sum a + b (vadd)."""
    return a(a, b), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def subtract(typing_context, a, b):
    """Difference a - b (vsub)."""
    return a(a, b), lambda context, builder, signature, args: builder.fsub(*args)


@intrinsic
def multiply(typing_context, a, b):
    """Product a * b (vmul)."""
    return a(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once (vfmadd)."""
    return a(a, b, c), lambda context, builder, signature, args: emit_call(builder, a, "llvm.fma", *args)


@intrinsic
def maximum(typing_context, a, b):
    """a > b ? a : b, so b where one of them is a NaN (vmax): maximum(zero, v) is a ReLU that keeps NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def gate(typing_context, v, floor, g):
    """v <= floor ? 0 : g, so g where v or floor is a NaN (vcmp, vandn or a masked vmovu)."""

    def codegen(context, builder, signature, args):
        v_value, floor_value, g_value = args
        return builder.select(builder.fcmp_ordered("<=", v_value, floor_value), zero_constant(v), g_value)

    return v(v, floor, g), codegen
