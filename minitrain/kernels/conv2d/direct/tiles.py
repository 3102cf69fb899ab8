"""Which register tiles the direct convolution's kernels work in, and how many images fill them."""

from minitrain.kernels.conv2d.cutting import ceil_div
from nbnorm.simd.vectors import VECTOR_BYTES

__all__ = ["correlation_tile", "fitting_tile", "images_of_block", "weight_tile"]

# Both numbers: found with `benchmarks.peers conv` on 4 cores of an AVX-512 Xeon, 2026-11.

# Vectors in whole tiles for each that is needed, at most, where a block of more images can avoid that. Above, vectors
# without pixels are multiplied; below, blocks of images outgrow the cache for the sake of the last tile.
TILE_WASTE = 1.04

# The same where no block of images avoids it, that of one small image: from here on a narrower tile is better. Above,
# more vectors without pixels are multiplied; below, each weight is used for fewer vectors without need.
NARROW_TILE_WASTE = 1.1
NARROWER = {(8, 3): (8, 2)}  # as high, so that both read the same packed weights


def correlation_tile(outs: int) -> tuple[int, int]:
    """Tile of outputs by vectors of pixels: as large as the 32 or 16 registers allow, no higher than the outputs."""
    if outs < 4:
        return 1, 6
    if VECTOR_BYTES < 64:
        return 4, 3
    return (8, 3) if outs >= 8 else (4, 4)


def weight_tile(outs: int) -> tuple[int, int]:
    """Tile of outputs by (channel, tap) pairs: as large as the 32 or 16 registers allow, no higher than the outputs."""
    if outs < 4:
        return 1, 6
    return (4, 6) if VECTOR_BYTES == 64 else (4, 3)


def fitting_tile(tile: tuple[int, int], vectors: int) -> tuple[int, int]:
    """The tile for so many vectors: a narrower one if too much of it would be empty."""
    return NARROWER.get(tile, tile) if _waste(vectors, tile[1]) > NARROW_TILE_WASTE else tile


def images_of_block(vectors: int, columns: int, most: int) -> int:
    """How many images of so many vectors make whole tiles of so many columns, nearly, at most `most`."""
    for images in range(1, min(columns, most) + 1):
        if _waste(images * vectors, columns) <= TILE_WASTE:
            return images
    return max(1, min(columns, most))


def _waste(vectors: int, columns: int) -> float:
    """Vectors in whole tiles for one that is needed."""
    return ceil_div(vectors, columns) * columns / vectors
