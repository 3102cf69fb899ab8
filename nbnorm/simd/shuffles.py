"""Movements between the lanes of vectors, and what is made of them: sums over lanes."""

from llvmlite import ir
from numba.extending import intrinsic

from nbnorm.simd.vectors import INT32

__all__ = ["emit_joined", "emit_lane_sums", "emit_shuffle", "emit_transposed", "sum_lanes"]


def emit_shuffle(builder, a, b, lanes):
    """Vector of these lanes of a and b, one behind the other."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def emit_joined(builder, vectors):
    """One vector of the lanes of all vectors, in their order; as many vectors as a power of 2."""
    while len(vectors) > 1:
        every = list(range(2 * vectors[0].type.count))
        vectors = [emit_shuffle(builder, a, b, every) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def emit_transposed(builder, vectors):
    """Transpose the squares of as many lanes as there are vectors: at each level, halves of blocks change places."""
    size, width, vectors = vectors[0].type.count, len(vectors) // 2, list(vectors)
    while width:
        low = [lane if lane & width == 0 else size + lane - width for lane in range(size)]
        high = [lane + width if lane & width == 0 else size + lane for lane in range(size)]
        for i in range(len(vectors)):
            if i & width == 0:
                a, b = vectors[i], vectors[i + width]
                vectors[i], vectors[i + width] = emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high)
        width //= 2
    return vectors


def emit_lane_sums(builder, vector, values):
    """Vector whose lane i is the sum of the lanes of values[i], each as a binary tree; at most as many as lanes.

    Two vectors become one at each level, in which half of the lanes go on with the sums of either.
    """
    width = vector.lanes
    values = [*values, *[None] * (width - len(values))]
    while width > 1:
        width //= 2
        low, high = [], []
        for lane in range(vector.lanes):
            own = lane & width == 0
            low.append(lane if own else vector.lanes + lane - width)
            high.append(lane + width if own else vector.lanes + lane)
        pairs = [(a, a if b is None else b) for a, b in zip(values[:width], values[width:], strict=True)]
        values = [
            None if a is None else builder.fadd(emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high))
            for a, b in pairs
        ]
    return values[0]


@intrinsic
def sum_lanes(typing_context, value):
    """Sum of the lanes of a vector, in the order of a binary tree: halves first (log2(lanes) times vshuf and vadd)."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(emit_lane_sums(builder, value, [args[0]]), INT32(0))

    return value.scalar(value), codegen
