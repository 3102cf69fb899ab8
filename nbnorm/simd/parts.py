"""What norms need beyond the basic vectors: selections, parts of vectors, stores past the caches, sums in float64."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbnorm.simd.vectors import (
    INDEX,
    VECTOR_BYTES,
    VectorType,
    elementwise,
    emit_load,
    emit_store,
    pointer_to,
    vector_of,
    zero_constant,
)

# a > b ? a : b, so b where one of them is a NaN: maximum(zero, v) is a ReLU that keeps NaN
maximum = elementwise(lambda builder, vector, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), 2)
# v <= floor ? 0 : g, so g where v or floor is a NaN
gate = elementwise(
    lambda builder, vector, v, floor, g: builder.select(builder.fcmp_ordered("<=", v, floor), zero_constant(vector), g),
    3,
)


# ------------------------------------------------------------------------------------------ parts of vectors, streaming


def _first_lanes(builder, vector: VectorType, count):
    """Mask of the lanes below `count`."""
    index = ir.IntType(32)
    lanes = ir.VectorType(index, vector.lanes)
    undefined = ir.Constant(lanes, ir.Undefined)
    one = builder.insert_element(undefined, builder.trunc(count, index), index(0))
    limit = builder.shuffle_vector(one, undefined, ir.Constant(lanes, [0] * vector.lanes))
    return builder.icmp_unsigned("<", ir.Constant(lanes, list(range(vector.lanes))), limit)


def _masked(builder, vector: VectorType, name: str, result, *args):
    signature = ir.FunctionType(result, [argument.type for argument in args])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.{name}.{vector.suffix}.p0"), args
    )


@intrinsic
def load_part(typing_context, array, index, count, other):
    """array[index : index + count] in the first lanes, those of `other` in the rest; memory beyond is not touched."""

    def codegen(context, builder, signature, args):
        source, at, number, fallback = args
        pointer = pointer_to(context, builder, signature.args[0], source, at)
        pointer = builder.bitcast(pointer, other.llvm.as_pointer())
        align = ir.IntType(32)(other.scalar.bitwidth // 8)
        return _masked(
            builder, other, "load", other.llvm, pointer, align, _first_lanes(builder, other, number), fallback
        )

    return other(array, types.intp, types.intp, other), codegen


@intrinsic
def store_part(typing_context, array, index, count, value):
    """array[index : index + count] = the first lanes of value"""

    def codegen(context, builder, signature, args):
        target, at, number, vector = args
        pointer = pointer_to(context, builder, signature.args[0], target, at)
        pointer = builder.bitcast(pointer, value.llvm.as_pointer())
        align = ir.IntType(32)(value.scalar.bitwidth // 8)
        mask = _first_lanes(builder, value, number)
        _masked(builder, value, "store", ir.VoidType(), vector, pointer, align, mask)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


@intrinsic
def blend(typing_context, count, first, rest):
    """The first `count` lanes of one vector and the other lanes of another."""

    def codegen(context, builder, signature, args):
        number, low, high = args
        return builder.select(_first_lanes(builder, first, number), low, high)

    return first(types.intp, first, first), codegen


@intrinsic
def stream(typing_context, array, index, value):
    """`store` past the caches, to an address that is a multiple of VECTOR_BYTES (see `elements_to_boundary`)."""

    def codegen(context, builder, signature, args):
        target, at, vector = args
        pointer = pointer_to(context, builder, signature.args[0], target, at)
        instruction = builder.store(vector, builder.bitcast(pointer, value.llvm.as_pointer()))
        instruction.align = VECTOR_BYTES
        instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def elements_to_boundary(typing_context, array, index):
    """How many elements from array[index] on lie before the next multiple of VECTOR_BYTES."""

    def codegen(context, builder, signature, args):
        address = builder.ptrtoint(pointer_to(context, builder, signature.args[0], *args), INDEX)
        missing = builder.and_(builder.neg(address), INDEX(VECTOR_BYTES - 1))
        return builder.udiv(missing, INDEX(array.dtype.bitwidth // 8))

    return types.intp(array, types.intp), codegen


@intrinsic
def no_sum(typing_context, array):
    """A vector of zeros in float64 with as many lanes as a vector of the array's type."""
    wide = VectorType(types.float64, vector_of(array.dtype).lanes)
    return wide(array), lambda context, builder, signature, args: zero_constant(wide)


def _widened(builder, vector: VectorType, value):
    wide = VectorType(types.float64, vector.lanes)
    return value if vector.scalar == types.float64 else builder.fpext(value, wide.llvm)


@intrinsic
def widen_add(typing_context, total, value):
    """total + value, lane by lane in float64 (the type of total)."""
    return total(total, value), lambda context, builder, signature, args: builder.fadd(
        args[0], _widened(builder, value, args[1])
    )


@intrinsic
def add_wide(typing_context, totals, index, value):
    """totals[index : index + lanes] += value, lane by lane in float64 (the type of totals)."""

    def codegen(context, builder, signature, args):
        target, at, vector = args
        wide = VectorType(types.float64, value.lanes)
        pointer = pointer_to(context, builder, signature.args[0], target, at)
        total = builder.fadd(emit_load(builder, wide, pointer), _widened(builder, value, vector))
        emit_store(builder, wide, total, pointer)
        return context.get_dummy_value()

    return types.void(totals, types.intp, value), codegen
