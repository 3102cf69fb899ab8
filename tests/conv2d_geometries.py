"""Convolutions of every kind, for the tests of their kernels."""

import pytest
from hypothesis import strategies as st

from minitrain.kernels.conv2d import Geometry, algorithm

GEOMETRIES = [
    Geometry((2, 3, 7, 9), 5, (3, 3), padding=(1, 1)),
    Geometry((3, 16, 8, 8), 16, (3, 3), padding=(1, 1)),
    Geometry((2, 16, 33, 40), 24, (3, 3), padding=(1, 1)),
    Geometry((5, 8, 16, 16), 12, (3, 3), stride=(2, 2), padding=(1, 1)),
    Geometry((2, 6, 11, 10), 4, (1, 1), stride=(2, 2)),
    Geometry((3, 20, 14, 14), 9, (1, 1)),
    Geometry((2, 6, 9, 12), 8, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2), groups=2),
    Geometry((2, 10, 12, 13), 10, (3, 3), padding=(1, 1), groups=10),
    Geometry((2, 3, 12, 13), 6, (5, 5), stride=(3, 1), groups=3),
    Geometry((4, 1, 28, 28), 6, (5, 5), padding=(2, 2)),
    Geometry((1, 2, 5, 5), 3, (2, 2), stride=(4, 4), padding=(3, 3)),
    Geometry((2, 3, 5, 7), 5, (1, 1)),
    Geometry((17, 30, 2, 2), 4, (1, 1), groups=2),
    Geometry((2, 2, 1, 1), 3, (3, 3), padding=(1, 1)),
    Geometry((1, 1, 1, 40), 1, (1, 7), padding=(0, 3), dilation=(1, 2)),
    Geometry((2, 70, 11, 10), 72, (1, 1), stride=(2, 2)),  # more outputs than a block of them has
    Geometry((2, 20, 12, 13), 9, (2, 2), stride=(3, 3), padding=(1, 1)),
    Geometry((1, 64, 66, 70), 8, (1, 1), stride=(3, 3)),  # several bands
]

DEPTHWISE = [
    Geometry((2, 20, 28, 28), 20, (3, 3), padding=(1, 1), groups=20),
    Geometry((3, 5, 40, 37), 5, (5, 3), padding=(2, 1), groups=5),
    Geometry((2, 3, 17, 33), 3, (2, 4), padding=(0, 1), dilation=(3, 2), groups=3),  # taps far apart
    Geometry((5, 4, 5, 7), 4, (3, 3), padding=(2, 2), groups=4),  # rows shorter than a vector
    Geometry((1, 2, 3, 3), 2, (3, 3), groups=2),  # a single result
]


@st.composite
def geometries(draw):
    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel, dilation, padding = pair(1, 5), pair(1, 3), pair(0, 3)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    height, width = (size + draw(st.integers(0, 24)) for size in least)
    channels, out_channels = (groups * size for size in pair(1, 20))
    shape = (draw(st.integers(1, 5)), channels, height, width)
    return Geometry(shape, out_channels, kernel, pair(1, 4), padding, dilation, groups)


@st.composite
def depthwise_geometries(draw):
    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilation = pair(1, 5), pair(1, 3)
    reach = [(taps - 1) * step for taps, step in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, min(4, far))) for far in reach)
    least = [max(1, far + 1 - 2 * pad) for far, pad in zip(reach, padding, strict=True)]
    channels, sizes = draw(st.integers(2, 40)), [size + draw(st.integers(0, 40)) for size in least]
    shape = (draw(st.integers(1, 5)), channels, *sizes)
    return Geometry(shape, channels, kernel, padding=padding, dilation=dilation, groups=channels)


@pytest.fixture(scope="module", autouse=True)
def serial_kernels():
    """Keep to the serial forms, which compile in half the time, where a test is not about threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(algorithm, "FLOPS_PER_ELEMENT", 10**12)
        yield
