"""Which algorithm makes which product: as it was measured to be best, and the same from release to release."""

import numpy as np
import pytest

from minitrain.kernels import conv2d
from minitrain.kernels.conv2d import Geometry, Product, algorithm, choose, scratch_size
from minitrain.kernels.conv2d.choose import DTYPES, choose_for_inference
from nbnorm.simd.vectors import LANES_FLOAT32

NAMES = {"w": "winograd 4x4", "d": "direct", "o": "outer products", "p": "depthwise"}
LANES = (4, 8, 16)

# Forward, input gradient and weight gradient in float32, then in float64; three of that where it differs with LANES.
CHOICES = [
    (Geometry((128, 3, 32, 32), 16, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((128, 16, 32, 32), 16, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((128, 16, 32, 32), 32, (3, 3), stride=(2, 2), padding=(1, 1)), "ddo ddo"),
    (Geometry((128, 32, 16, 16), 32, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((128, 32, 16, 16), 64, (3, 3), stride=(2, 2), padding=(1, 1)), "ddo ddo"),
    (Geometry((128, 64, 8, 8), 64, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((64, 1, 28, 28), 32, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((64, 32, 14, 14), 64, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((128, 1, 28, 28), 6, (5, 5), padding=(2, 2)), "ddd ddd"),
    (Geometry((32, 64, 56, 56), 64, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((32, 256, 14, 14), 64, (1, 1)), "ddo ddo"),
    (Geometry((128, 16, 32, 32), 32, (1, 1), stride=(2, 2)), "ddd ddd"),
    (Geometry((32, 64, 28, 28), 64, (3, 3), padding=(1, 1), groups=64), "ppp ppp"),
    (Geometry((1, 16, 32, 32), 16, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((1, 16, 16, 16), 16, (3, 3), padding=(1, 1)), "ddo ddo"),
    (Geometry((2, 16, 16, 16), 16, (3, 3), padding=(1, 1)), "ddo ddo"),
    (Geometry((4, 16, 16, 16), 16, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((64, 16, 4, 4), 16, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((63, 16, 4, 4), 16, (3, 3), padding=(1, 1)), "ddo ddo"),
    (Geometry((1000, 16, 3, 3), 16, (3, 3), padding=(1, 1)), ("wwo ddo", "wwo ddo", "ddo ddo")),
    (Geometry((128, 64, 4, 4), 64, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((1, 512, 7, 7), 512, (3, 3), padding=(1, 1)), "ddo ddo"),
    (Geometry((20, 512, 7, 7), 512, (3, 3), padding=(1, 1)), "ddw ddo"),
    (Geometry((21, 512, 7, 7), 512, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((64, 7, 16, 16), 16, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((64, 8, 16, 16), 16, (3, 3), padding=(1, 1)), ("wwo ddo", "wwo ddo", "ddo ddo")),
    (Geometry((64, 8, 16, 16), 8, (3, 3), padding=(1, 1)), ("wwo ddo", "wwo ddo", "ddo ddo")),
    (Geometry((64, 9, 16, 16), 9, (3, 3), padding=(1, 1)), ("wwo ddo", "ddo ddo", "ddo ddo")),
    (Geometry((64, 12, 16, 16), 12, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((64, 17, 16, 16), 17, (3, 3), padding=(1, 1)), ("wwo ddo", "ddo ddo", "ddo ddo")),
    (Geometry((64, 24, 16, 16), 24, (3, 3), padding=(1, 1)), ("www ddo", "www ddo", "wwo ddo")),
    (Geometry((64, 17, 16, 16), 16, (3, 3), padding=(1, 1)), ("wwo ddo", "wwo ddo", "ddo ddo")),
    (Geometry((64, 33, 16, 16), 64, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((64, 11, 16, 16), 13, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((64, 10, 16, 16), 16, (3, 3), padding=(1, 1)), "wwo ddo"),
    (Geometry((64, 16, 16, 16), 4, (3, 3), padding=(1, 1)), ("ddo ddo", "ddo ddo", "ddd ddd")),
    (Geometry((8, 16, 12, 12), 10, (1, 1)), "ddd ddd"),
    (Geometry((8, 64, 12, 12), 7, (1, 1)), ("ddo ddo", "ddo ddo", "ddd ddd")),
    (Geometry((8, 64, 12, 12), 8, (1, 1)), "ddo ddo"),
    (Geometry((8, 63, 12, 12), 8, (1, 1)), "ddd ddd"),
    (Geometry((8, 64, 12, 12), 4, (1, 1)), ("ddo ddo", "ddo ddo", "ddd ddd")),
    (Geometry((8, 16, 12, 12), 3, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((8, 7, 12, 12), 16, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((8, 8, 12, 12), 16, (3, 3), stride=(2, 2), padding=(1, 1)), "ddo ddo"),
    (Geometry((8, 32, 14, 14), 32, (3, 3), padding=(1, 1), groups=2), "ddo ddo"),
    (Geometry((8, 32, 14, 14), 32, (3, 3), padding=(1, 1), groups=32), "ppp ppp"),
    (Geometry((8, 32, 14, 14), 64, (3, 3), padding=(1, 1), groups=32), "ddd ddd"),
    (Geometry((8, 32, 14, 14), 32, (3, 3), stride=(2, 2), padding=(1, 1), groups=32), "ddd ddd"),
    (Geometry((8, 1, 14, 14), 1, (3, 3), padding=(1, 1)), "ddd ddd"),
    (Geometry((32, 128, 28, 28), 128, (3, 3), padding=(1, 1)), "www ddo"),
    (Geometry((32, 3, 64, 64), 64, (7, 7), stride=(2, 2), padding=(3, 3)), "ddo ddo"),
    (Geometry((32, 16, 20, 12), 24, (3, 3), padding=(0, 2)), "wwo ddo"),
    (Geometry((32, 16, 20, 12), 24, (3, 3), padding=(3, 1)), "ddo ddo"),
    (Geometry((32, 16, 20, 12), 24, (3, 3), padding=(2, 2), dilation=(2, 2)), "ddo ddo"),
    (Geometry((32, 16, 20, 12), 24, (3, 1), padding=(1, 0)), "ddd ddd"),
    (Geometry((32, 16, 20, 12), 24, (1, 3), padding=(0, 1)), "ddd ddd"),
    (Geometry((16, 20, 12, 12), 20, (5, 3), padding=(2, 1), groups=20), "ppp ppp"),
    (Geometry((16, 20, 12, 12), 20, (3, 3), padding=(3, 1), groups=20), "ddd ddd"),
    (Geometry((16, 20, 12, 12), 20, (3, 3), padding=(2, 2), dilation=(2, 1), groups=20), "ppp ppp"),
    (Geometry((16, 20, 12, 12), 40, (3, 3), padding=(1, 1), groups=20), "ddd ddd"),
    (Geometry((16, 40, 12, 12), 40, (3, 3), padding=(1, 1), groups=4), "ddo ddo"),
    (Geometry((8, 16, 3, 40), 16, (3, 3), padding=(1, 1)), "ddo ddo"),
    (Geometry((8, 16, 4, 4), 16, (3, 3)), "ddo ddo"),
    (Geometry((100, 16, 6, 6), 16, (3, 3)), "wwo ddo"),
]  # fmt: skip


@pytest.mark.parametrize(("geometry", "choices"), CHOICES, ids=str)
def test_choices(geometry, choices):
    pinned = choices if isinstance(choices, str) else choices[LANES.index(LANES_FLOAT32)]
    wanted = [[NAMES[letter] for letter in each] for each in pinned.split()]
    found = [[choose(geometry, product, dtype).name for product in Product] for dtype in DTYPES]
    assert found == wanted
    for dtype, names in zip(DTYPES, wanted, strict=True):
        assert list(conv2d.names_of_algorithms(geometry, dtype).values()) == names
        normalizes = conv2d.normalizes(geometry, Product.FORWARD, dtype=dtype)
        assert normalizes == (names[0] == NAMES["w"])
        if normalizes:
            assert choose(geometry, Product.WEIGHT_GRADIENT, dtype, normalizing=True).name == NAMES["w"]


@pytest.mark.parametrize("geometry", [geometry for geometry, _ in CHOICES], ids=str)
def test_sizes_are_enough_for_either_dtype(geometry):
    for dtype in DTYPES:
        for product in (Product.FORWARD, Product.INPUT_GRADIENT):
            chosen = choose(geometry, product, dtype)
            assert scratch_size(geometry, product) >= chosen.packed + chosen.scratch
        assert (
            scratch_size(geometry, Product.WEIGHT_GRADIENT) >= choose(geometry, Product.WEIGHT_GRADIENT, dtype).scratch
        )
        prepared = choose_for_inference(geometry, dtype)
        assert conv2d.packed_size(geometry) >= sum(each.packed for each in prepared)
        assert conv2d.packed_size(geometry) == conv2d.packed_size(geometry.with_images(7))
        assert type(choose(geometry, Product.FORWARD, dtype)) in [type(each) for each in prepared]


def test_what_can_not_normalize_says_so():
    geometry = Geometry((2, 3, 7, 9), 5, (3, 3), padding=(1, 1))
    x, y = np.zeros(geometry.input_shape, np.float32), np.zeros(geometry.output_shape, np.float32)
    weight, scratch = np.zeros(geometry.weight_shape, np.float32), np.zeros(100_000, np.float32)
    with pytest.raises(ValueError, match=r"normalization, sums: expected none for <direct, forward of Geometry"):
        conv2d.forward(geometry, x, weight, None, scratch, y, normalization=x[0, 0])
    with pytest.raises(ValueError, match="normalization: expected none for a weight gradient"):
        conv2d.weight_gradient(
            geometry, y.astype("float64"), x.astype("float64"), scratch, weight, None, normalization=x[0, 0]
        )


def test_work_follows_the_operations(monkeypatch):
    chosen = choose(CHOICES[0][0], Product.FORWARD, DTYPES[0])
    monkeypatch.setattr(algorithm, "FLOPS_PER_ELEMENT", 4)
    assert chosen.work == CHOICES[0][0].flops // 4
