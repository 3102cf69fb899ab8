"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: no file, no network."""

from numpy.typing import DTypeLike

from minitrain.datasets.images import Split, check_labels, float_dtype, scaled
from minitrain.optional import require
from nbnorm.jit.checks import expect_number

__all__ = ["digits"]

TOP, CLASSES = 16, 10  # pixels count the set dots of a 4 x 4 cell


def digits(*, test_fraction: float = 0.2, seed: int = 0, dtype: DTypeLike = "float32") -> Split:
    """Handwritten digits, split so that every class has the same share in both parts.

    Alpaydin & Kaynak, "Optical recognition of handwritten digits", UCI, 1998 (its test part).

    Parameters
    ----------
    test_fraction : float
        Share of the 1,797 images to test on, between 0 and 1.
    seed : int
        Of the split: the same seed gives the same images.
    dtype : dtype
        Of the images: float32 or float64.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        x (1437, 1, 8, 8) and (360, 1, 8, 8) in [0, 1]; y int64, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    chosen = float_dtype(dtype)
    expect_number("test_fraction", test_fraction, 0.0, 1.0, open_low=True, open_high=True)
    bunch = require("sklearn.datasets", "the digits data set").load_digits()
    split = require("sklearn.model_selection", "the digits data set").train_test_split
    x = scaled(bunch.images[:, None], TOP, chosen)
    y = check_labels(bunch.target, CLASSES, "digits")
    x_train, x_test, y_train, y_test = split(x, y, test_size=float(test_fraction), stratify=y, random_state=seed)
    return (x_train, y_train), (x_test, y_test)
