"""Register tiles: a block of rows x columns SIMD vectors that a kernel keeps in registers across its reduction loops.

LLVM does not vectorize an outer loop, so that a plain loop nest reloads its sums from memory at every step. A tuple of
vectors that is passed through small intrinsics stays in registers. The rules on arrays are those of `vectors`.
"""

from functools import cache
from typing import Any, NamedTuple

from nbnorm.simd.tiles.loads import make_load_columns_between, make_offsets, make_splat_rows, make_zero
from nbnorm.simd.tiles.products import (
    make_add_dots,
    make_add_outer,
    make_add_outer_spaced,
    make_add_products,
    make_add_scaled,
)
from nbnorm.simd.tiles.stores import make_add_lane_sums, make_add_to, make_store_columns, make_store_lane_sums

__all__ = ["Tile", "make_tile"]


class Tile(NamedTuple):
    """The operations on a tile `acc` of `rows` x `columns` vectors of `lanes` values; see `make_tile`."""

    rows: int
    columns: int
    zero: Any
    splat_rows: Any
    add_outer: Any
    add_outer_spaced: Any
    add_products: Any
    add_products_between: Any
    add_scaled: Any
    add_dots: Any
    add_dots_between: Any
    add_lane_sums: Any
    store_lane_sums: Any
    add_to: Any
    load_columns_between: Any
    store_columns: Any
    store_columns_between: Any
    offsets: Any

    def named(self, function: Any) -> Any:
        """Give a function that is defined anew for each tile a name of its own.

        Compiled code from the disk cache is linked by name: two tiles' functions of one name would be taken for one.
        """
        function.__qualname__ += f"_{self.rows}x{self.columns}"
        return function


@cache
def make_tile(rows: int, columns: int) -> Tile:
    """Make the intrinsics of a tile shape. They work for float32 and float64; arrays are one-dimensional.

    ====================================================  ============================================================
    `zero(array)`                                         a tile of zeros of the array's type
    `splat_rows(array, at)`                               acc[r, c] = array[at + r] in every lane
    `add_outer(acc, w, w_at, x, offsets, x_at)`           acc[r, c] += w[w_at + r] * x[offsets[c] + x_at :][:lanes]
    `add_outer_spaced(acc, w, w_at, pitch, x, x_at)`      acc[r, c] += w[w_at + r * pitch] * x[x_at + c * lanes :]
    `add_products(acc, a, a_at, b, offsets, b_at)`        acc[r, c] += a[a_at + r * lanes :] * b[offsets[c] + b_at :]
    `add_products_between(..., count)`                    the same for the first `count` lanes; reads no others of b
    `add_scaled(acc, vector, b, offsets, b_at)`           acc[r, c] += vector * b[offsets[c] + b_at :]
    `add_dots(acc, a, a_at, a_pitch, b, b_at, b_pitch)`   acc[r, c] += a[a_at + r * a_pitch :] * b[b_at + c * b_pitch :]
    `add_dots_between(..., count)`                        the same for the first `count` lanes; reads no others
    `add_lane_sums(acc, y, at)`                           y[at + r * columns + c] += sum of the lanes of acc[r, c];
                                                          as far as the next multiple of lanes, y is not kept
    `store_lane_sums(acc, b, b_at, b_pitch, y, at,        y[at + r * pitch + c] = b[b_at + r * b_pitch + c] + sum of the
    pitch)`                                               lanes of acc[r, c], for a power of 2 of columns
    `add_to(acc, y, at)`                                  y[at + (r * columns + c) * lanes :] += acc[r, c]
    `store_columns(acc, y, at, places, pitch)`            y[at + places[c] + r * pitch :] = acc[r, c]
    `store_columns_between(..., counts)`                  the same for the first counts[c] lanes of acc[r, c]
    `load_columns_between(y, at, places, pitch, counts)`  the reverse, with 0 in the other lanes
    `offsets(table, at)`                                  the tuple table[at], ..., table[at + columns - 1]
    ====================================================  ============================================================
    """
    add_products, add_products_between = make_add_products(rows, columns)
    add_dots, add_dots_between = make_add_dots(rows, columns)
    store_columns, store_columns_between = make_store_columns(rows, columns)
    return Tile(
        rows,
        columns,
        zero=make_zero(rows, columns),
        splat_rows=make_splat_rows(rows, columns),
        add_outer=make_add_outer(rows, columns),
        add_outer_spaced=make_add_outer_spaced(rows, columns),
        add_products=add_products,
        add_products_between=add_products_between,
        add_scaled=make_add_scaled(rows, columns),
        add_dots=add_dots,
        add_dots_between=add_dots_between,
        add_lane_sums=make_add_lane_sums(rows, columns),
        store_lane_sums=make_store_lane_sums(rows, columns),
        add_to=make_add_to(rows, columns),
        load_columns_between=make_load_columns_between(rows, columns),
        store_columns=store_columns,
        store_columns_between=store_columns_between,
        offsets=make_offsets(columns),
    )
