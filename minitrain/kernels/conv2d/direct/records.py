"""The integers that the direct convolution's kernels work from, by their names.

`cut` and `weight_cut` write them into a row, the kernels read them from it. Behind them in the row are tables, whose
offsets in it are among them.
"""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.jit.records import record
from nbnorm.simd.memory import flat

__all__ = [
    "Bands", "Cut", "Packed", "Phases", "Problem", "Scratch", "TableOffsets", "Tables", "WeightBlocks",
    "WeightGradientCut", "WeightScratch", "WeightTableOffsets", "WeightTables", "cut_of",
    "tables_of", "weight_cut_of", "weight_tables_of",
]  # fmt: skip


class Problem(NamedTuple):
    """Sizes of what is read, the source, and of what comes out (or, for weights, meets it), the result."""

    images: int
    groups: int
    channels: int  # of a group of the source
    outs: int  # of a group of the result
    height: int  # of the source
    width: int
    out_height: int  # of the result
    out_width: int


class Phases(NamedTuple):
    """The result consists of rows x columns interleaved phases of height x width pixels.

    One, unless the stride of an input gradient makes more.
    """

    rows: int
    columns: int
    height: int
    width: int

    @property
    def number(self) -> int:
        return self.rows * self.columns


class Packed(NamedTuple):
    """How the source is packed, in values."""

    row_stride: int  # from a row of results to the next in the source
    column_stride: int
    gap: int  # columns that are packed beyond those of the results
    channel: int  # from one channel to the next
    image: int  # from one image to the next
    in_place: bool  # it is read where it is


class Bands(NamedTuple):
    """How the work is divided: bands of rows of blocks of images."""

    workers: int
    images: int  # of a block
    rows: int  # of a band
    chunks: int  # of each sum
    splits: int  # parts that the outputs of a band are divided into


class Scratch(NamedTuple):
    """Of a worker, in values: packed planes, then the results of all phases."""

    worker: int  # from one worker to the next
    results: int  # offset of the results


class TableOffsets(NamedTuple):
    """Where the tables begin in the row: see `Tables`."""

    segments: int
    vectors: int
    offsets: int
    starts: int


class Cut(NamedTuple):
    """All that `correlate` works from, but for the tables."""

    problem: Problem
    phases: Phases
    packed: Packed
    bands: Bands
    scratch: Scratch
    tables: TableOffsets


class Tables(NamedTuple):
    """The tables of a correlation.

    segments: what `pack` works from. vectors: see `Vectors`; first those of a whole band and block of images, then
    those of the last one. Chunk c of the sums of phase f has the (channel, tap) pairs from starts[f * chunks + c] to
    the next start, whose `offsets` in the packed planes these are.
    """

    segments: Any
    vectors: Any
    offsets: Any
    starts: Any


cut_of = record(Cut)


@device
def tables_of(row, cut):
    """The tables in the row of a `Cut`."""
    begins = cut.tables
    return Tables(
        flat(row[begins.segments : begins.vectors]),
        flat(row[begins.vectors : begins.offsets]),
        flat(row[begins.offsets : begins.starts]),
        flat(row[begins.starts :]),
    )


class WeightBlocks(NamedTuple):
    """How the work of a weight gradient is divided: blocks of channels and outputs, over a chunk of the images."""

    workers: int
    chunks: int
    images: int  # that are packed at a time
    channels: int
    outs: int


class WeightScratch(NamedTuple):
    """In values: the sums of all chunks come first, then each worker has packed planes, a panel of dy and sums."""

    workers: int  # offset of the first worker's
    worker: int  # from one worker to the next
    panel: int  # offset in a worker's
    sums: int  # offset in a worker's


class WeightTableOffsets(NamedTuple):
    """Where the tables begin in the row: see `WeightTables`."""

    segments: int
    vectors: int
    offsets: int


class WeightGradientCut(NamedTuple):
    """All that `sum_products` works from, but for the tables. x is the source, dy is of the result's shape."""

    problem: Problem
    taps: int
    packed: Packed
    blocks: WeightBlocks
    scratch: WeightScratch
    tables: WeightTableOffsets


class WeightTables(NamedTuple):
    """The tables of a weight gradient.

    segments: what `pack` works from. vectors: see `Vectors`, for a block of images; those of which only some lanes can
    be read follow the others. offsets: of each (channel, tap) pair in the packed planes.
    """

    segments: Any
    vectors: Any
    offsets: Any


weight_cut_of = record(WeightGradientCut)


@device
def weight_tables_of(row, cut):
    """The tables in the row of a `WeightGradientCut`."""
    begins = cut.tables
    return WeightTables(
        flat(row[begins.segments : begins.vectors]),
        flat(row[begins.vectors : begins.offsets]),
        flat(row[begins.offsets :]),
    )
