"""Widths of vectors in bytes that are not the host's: what the other tests do not run."""

from nbnorm.simd.vectors import VECTOR_BYTES, WIDTHS

OTHER = [str(width) for width in WIDTHS if width != VECTOR_BYTES]
NARROWER = [str(width) for width in WIDTHS if width < VECTOR_BYTES]
