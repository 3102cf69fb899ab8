"""Arrays as memory: one element, what is fetched ahead, what is stored past the caches, views that count no references.

The rules on arrays are those of `vectors`.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbnorm.simd.vectors import INDEX, INT32, VECTOR_BYTES, pointer_to

__all__ = [
    "borrowed", "elements_to_boundary", "flat", "item", "prefetch", "prefetch_for_store", "prefetch_nearest",
    "reinterpreted", "store_item", "stream",
]  # fmt: skip


# -------------------------------------------------------------------------------------------------------- one element


@intrinsic
def item(typing_context, array, index):
    """array[index] of an index that is not negative (mov): `array[index]` spends four instructions on the chance."""

    def codegen(context, builder, signature, args):
        return builder.load(pointer_to(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), codegen


@intrinsic
def store_item(typing_context, array, index, value):
    """array[index] = value, for an index that is not negative and a value of the array's type (mov)."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], pointer_to(context, builder, signature.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


# ------------------------------------------------------------------------------------------- into and past the caches


def _emit_prefetch(context, builder, signature, args, write: int, locality: int):
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    pointer = builder.bitcast(pointer_to(context, builder, signature.args[0], *args), byte)
    builder.call(function, [pointer, INT32(write), INT32(locality), INT32(1)])  # of data
    return context.get_dummy_value()


@intrinsic
def prefetch(typing_context, array, index):
    """Fetch the line of array[index], which may lie outside of the array, into the level 2 cache (prefetcht1)."""
    return types.void(array, types.intp), lambda *code: _emit_prefetch(*code, write=0, locality=2)


@intrinsic
def prefetch_nearest(typing_context, array, index):
    """Fetch the line of array[index], which may lie outside of the array, into the level 1 cache (prefetcht0)."""
    return types.void(array, types.intp), lambda *code: _emit_prefetch(*code, write=0, locality=3)


@intrinsic
def prefetch_for_store(typing_context, array, index):
    """Fetch the line of array[index], which may lie outside of the array, in order to write it (prefetchw)."""
    return types.void(array, types.intp), lambda *code: _emit_prefetch(*code, write=1, locality=3)


@intrinsic
def stream(typing_context, array, index, value):
    """`store` past the caches (vmovnt), to an address that is a multiple of VECTOR_BYTES (`elements_to_boundary`)."""

    def codegen(context, builder, signature, args):
        array, index, vector = args
        pointer = pointer_to(context, builder, signature.args[0], array, index)
        instruction = builder.store(vector, builder.bitcast(pointer, value.llvm.as_pointer()))
        instruction.align = VECTOR_BYTES
        instruction.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def elements_to_boundary(typing_context, array, index):
    """How many elements from array[index] on lie before the next multiple of VECTOR_BYTES (neg, and, shr)."""

    def codegen(context, builder, signature, args):
        address = builder.ptrtoint(pointer_to(context, builder, signature.args[0], *args), INDEX)
        missing = builder.and_(builder.neg(address), INDEX(VECTOR_BYTES - 1))
        return builder.udiv(missing, INDEX(array.dtype.bitwidth // 8))

    return types.intp(array, types.intp), codegen


# ------------------------------------------------------------------------------- views: no instruction, no counting


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
