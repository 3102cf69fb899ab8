"""The integers that the outer products' kernel works from, by their names.

`weight_cut` writes them into a row, the kernel reads them from it. Behind them in the row are tables, whose offsets in
it are among them.
"""

from typing import Any, NamedTuple

from nbnorm.jit import device
from nbnorm.jit.records import record
from nbnorm.simd.memory import flat

__all__ = [
    "Blocks", "Cut", "Problem", "Rows", "Scratch", "TableOffsets", "Tables", "cut_of", "lane_weights_of", "tables_of",
    "vectors_of",
]  # fmt: skip


class Problem(NamedTuple):
    """Sizes of x and of dy."""

    images: int
    groups: int
    channels: int  # of a group
    outs: int  # of a group
    taps: int
    height: int  # of x
    width: int
    out_height: int  # of dy
    out_width: int


class Rows(NamedTuple):
    """Rows of x and dy, which are packed in bands."""

    stride: int  # rows of x from one row of dy to the next
    reach: int  # rows of x that the kernel spans
    padding: int  # rows
    pitch: int  # values from one row of packed x to the next
    band: int  # rows of dy in a band


class Blocks(NamedTuple):
    """How the work is divided: blocks of channels and outputs, over a chunk of the images."""

    workers: int
    chunks: int
    channels: int
    outs: int
    pixels: int  # that are summed at a time


class Scratch(NamedTuple):
    """In values: the sums of all tasks come first, then each worker has packed x and packed dy."""

    sums: int  # from the sums of one task to the next
    workers: int  # offset of the first worker's
    worker: int  # from one worker to the next
    x_size: int  # of packed x, behind which packed dy begins


class TableOffsets(NamedTuple):
    """Where the tables begin in the row: see `Tables`."""

    vectors: int
    lane_weights: int
    pixels: int
    x_pixels: int
    dy_pixels: int


class Cut(NamedTuple):
    """All that `sum_outer_products` works from, but for the tables."""

    problem: Problem
    rows: Rows
    blocks: Blocks
    scratch: Scratch
    tables: TableOffsets


class Tables(NamedTuple):
    """Offsets of what is read and written.

    vectors: where each vector of a run of channels and taps begins in packed x, relative to the pixel. lane_weights:
    the offset in dweight of each of their lanes, -1 for none. pixels: where the first tap of each pixel of dy is in
    packed x. x_pixels, dy_pixels: where each pixel of x and of dy is packed.
    """

    vectors: Any
    lane_weights: Any
    pixels: Any
    x_pixels: Any
    dy_pixels: Any


cut_of = record(Cut)


@device
def vectors_of(row, cut):
    """The table `vectors` in the row of a `Cut`."""
    return flat(row[cut.tables.vectors : cut.tables.lane_weights])


@device
def lane_weights_of(row, cut):
    """The table `lane_weights` in the row of a `Cut`."""
    return flat(row[cut.tables.lane_weights : cut.tables.pixels])


@device
def tables_of(row, cut):
    """All tables in the row of a `Cut`; each takes its time to compile, so ask for one alone where that is enough."""
    begins = cut.tables
    return Tables(
        vectors_of(row, cut),
        lane_weights_of(row, cut),
        flat(row[begins.pixels : begins.x_pixels]),
        flat(row[begins.x_pixels : begins.dy_pixels]),
        flat(row[begins.dy_pixels :]),
    )
