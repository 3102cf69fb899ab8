"""Images made from a seed: every class is a smooth random pattern, moved about and covered with noise."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minitrain.datasets.images import Split, float_dtype
from nbnorm.jit.arrays import Array
from nbnorm.jit.checks import expect_integer, expect_number, mismatch

__all__ = ["synthetic"]

WAVES = 6  # cosine waves in the pattern of each channel


def synthetic(
    *,
    shape: tuple[int, int, int] = (1, 16, 16),
    classes: int = 10,
    train: int = 2000,
    test: int = 500,
    noise: float = 0.15,
    seed: int = 0,
    dtype: DTypeLike = "float32",
) -> Split:
    """Make images that a small net learns to tell apart, of any shape and number.

    Each example is the pattern of its class, shifted cyclically by up to an eighth of height and width, plus normal
    noise, clipped to [0, 1]. The same arguments give the same bits.

    Parameters
    ----------
    shape : (C, H, W)
        Of one image.
    classes : int
        Number of classes, each as frequent as the others (to within one example).
    train, test : int
        Number of images in each part.
    noise : float
        Standard deviation of the noise, for patterns between 0.1 and 0.9.
    seed : int
        Of patterns, shifts and noise.
    dtype : dtype
        Of the images: float32 or float64.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x (N, C, H, W) in [0, 1]; y int64 (N,), 0 to classes - 1.
    """
    chosen = float_dtype(dtype)
    if len(shape) != 3:
        raise ValueError(mismatch("shape", "(C, H, W)", shape))
    counts = [("shape", length) for length in shape] + [("classes", classes), ("train", train), ("test", test)]
    for name, value in counts:
        expect_integer(name, value, 1)
    expect_number("noise", noise, 0.0)
    pattern_seed, train_seed, test_seed = np.random.SeedSequence(seed).spawn(3)
    patterns = _patterns(np.random.default_rng(pattern_seed), classes, shape)
    return (
        _examples(np.random.default_rng(train_seed), patterns, train, noise, chosen),
        _examples(np.random.default_rng(test_seed), patterns, test, noise, chosen),
    )


def _patterns(rng: np.random.Generator, classes: int, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Sums of a few low waves, (classes, C, H, W), each plane scaled to [0.1, 0.9]."""
    channels, height, width = shape
    rows, columns = np.arange(height) / height, np.arange(width) / width
    size = (classes, channels, WAVES, 1, 1)
    phase = rng.integers(-3, 4, size) * rows[:, None] + rng.integers(-3, 4, size) * columns + rng.random(size)
    planes = (rng.standard_normal(size) * np.cos(2 * np.pi * phase)).sum(axis=2)
    low, high = planes.min(axis=(2, 3), keepdims=True), planes.max(axis=(2, 3), keepdims=True)
    patterns: NDArray[np.float64] = 0.1 + 0.8 * (planes - low) / np.maximum(high - low, 1e-12)
    return patterns


def _examples(
    rng: np.random.Generator, patterns: NDArray[np.float64], count: int, noise: float, dtype: np.dtype[np.floating]
) -> tuple[Array, Array]:
    classes, channels, height, width = patterns.shape
    labels = rng.permutation(np.arange(count, dtype=np.int64) % classes)
    down = rng.integers(-(height // 8), height // 8 + 1, count)
    right = rng.integers(-(width // 8), width // 8 + 1, count)
    images = np.empty((count, channels, height, width), dtype)
    for i, label in enumerate(labels):
        clean = np.roll(patterns[label], (down[i], right[i]), axis=(1, 2))
        images[i] = np.clip(clean + noise * rng.standard_normal(clean.shape), 0, 1)
    return images, labels
