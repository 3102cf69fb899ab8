"""The working memory of batch norm over columns: for each chunk of rows two `line`s of sums, one of each kind."""

from nbnorm.jit import device
from nbnorm.kernels.runs import Totals
from nbnorm.simd.vectors import lanes_of

__all__ = ["add_chunks", "clear_sums", "line_of", "totals_of"]


@device
def line_of(x, channels):
    """Channels, rounded up to whole vectors."""
    return -(-channels // lanes_of(x)) * lanes_of(x)


@device
def totals_of(sums, line, chunk, c):
    """Where the sums of column c are, of a chunk."""
    first = 2 * chunk * line + c
    return Totals(sums, first, first + line)


@device
def clear_sums(x, sums, line, columns):
    """Begin the sums of what a task works on."""
    lanes, start = lanes_of(x), 2 * columns.chunk * line
    for i in range(start + columns.c0, start + -(-columns.c1 // lanes) * lanes):
        sums[i] = sums[i + line] = 0.0


@device
def add_chunks(sums, line, chunks, c0, c1):
    """Add the sums of all chunks to those of the first, in order."""
    for chunk in range(1, chunks):
        for first in (c0, line + c0):
            total = sums[first : first + c1 - c0]
            other = sums[2 * chunk * line + first : 2 * chunk * line + first + c1 - c0]
            for j in range(c1 - c0):
                total[j] += other[j]
