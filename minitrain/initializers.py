"""Initial values of parameters: frozen dataclasses of numbers and strings, so that a saved graph can name them.

An initializer is called with a random generator, the shape, and the fans: `fan_in` is how many inputs each output
sums over (Dense: in; Conv2d: in / groups x kh x kw), `fan_out` how many outputs each input reaches. Values are
float64; the model rounds them to its own dtype, so that a float32 net starts where its float64 twin does.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nbnorm.jit.checks import expect_number, expect_one_of, mismatch, set_checked

__all__ = ["INITIALIZERS", "Constant", "Glorot", "He", "Initializer", "LeCun", "Normal", "Uniform"]

Distribution = Literal["normal", "uniform"]


@dataclass(frozen=True)
class Initializer:
    """Base class: checks that every number is finite; subclasses draw the values."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "distribution":
                expect_one_of("distribution", value, ("normal", "uniform"))
            else:
                low = 0.0 if field.name in ("std", "scale") else -math.inf
                set_checked(self, **{field.name: expect_number(field.name, value, low)})

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Return new values of this shape, float64; all randomness comes from `rng`."""
        raise TypeError(f"{type(self).__name__} draws no values: use one of {', '.join(INITIALIZERS)}")


def _draw(
    rng: np.random.Generator, shape: tuple[int, ...], std: float, distribution: Distribution
) -> NDArray[np.float64]:
    """Values of mean 0 and this standard deviation."""
    if distribution == "normal":
        return std * rng.standard_normal(shape)
    bound = math.sqrt(3.0) * std  # a uniform value in [-b, b] has the variance b^2 / 3
    return rng.uniform(-bound, bound, shape)


def _check_fan(name: str, fan: float) -> None:
    if not fan > 0:
        raise ValueError(mismatch(name, "a positive count", repr(fan)))


@dataclass(frozen=True)
class He(Initializer):
    """Variance `2 / ((1 + negative_slope^2) fan_in)`: keeps the size of activations through layers of ReLU.

    `negative_slope` is that of the LeakyReLU or PReLU that follows; `scale` multiplies the standard deviation.
    He et al., "Delving deep into rectifiers", 2015 (arXiv:1502.01852), equations 10 and 15.

    Examples
    --------
    >>> import numpy as np
    >>> weight = He()(np.random.default_rng(0), (100, 50), fan_in=50, fan_out=100)
    >>> weight.shape, bool(abs(weight.std() - 0.2) < 0.01)
    ((100, 50), True)
    """

    distribution: Distribution = "normal"
    scale: float = 1.0
    negative_slope: float = 0.0

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        _check_fan("fan_in", fan_in)
        std = self.scale * math.sqrt(2.0 / ((1.0 + self.negative_slope**2) * fan_in))
        return _draw(rng, shape, std, self.distribution)


@dataclass(frozen=True)
class Glorot(Initializer):
    """Variance `2 / (fan_in + fan_out)`: for tanh, sigmoid and linear layers; `scale` multiplies the deviation.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
    """

    distribution: Distribution = "uniform"
    scale: float = 1.0

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        _check_fan("fan_in + fan_out", fan_in + fan_out)
        return _draw(rng, shape, self.scale * math.sqrt(2.0 / (fan_in + fan_out)), self.distribution)


@dataclass(frozen=True)
class LeCun(Initializer):
    """Variance `1 / fan_in`: a sum of `fan_in` unit inputs has variance 1; `scale` multiplies the deviation.

    LeCun et al., "Efficient BackProp", 1998, section 4.6.
    """

    distribution: Distribution = "normal"
    scale: float = 1.0

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        _check_fan("fan_in", fan_in)
        return _draw(rng, shape, self.scale * math.sqrt(1.0 / fan_in), self.distribution)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal values of this standard deviation and mean, whatever the fans."""

    std: float = 0.01
    mean: float = 0.0

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        return rng.normal(self.mean, self.std, shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform values in [low, high), whatever the fans."""

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(mismatch("high", f"at least low = {self.low!r}", repr(self.high)))

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        return rng.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class Constant(Initializer):
    """The same value everywhere: `Constant(0)` for biases and beta, `Constant(1)` for gamma."""

    value: float = 0.0

    def __call__(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        return np.full(shape, self.value, dtype=np.float64)


# The fixed set that a saved graph may name: loading looks classes up here and imports nothing.
INITIALIZERS: dict[str, type[Initializer]] = {
    initializer.__name__: initializer for initializer in (He, Glorot, LeCun, Normal, Uniform, Constant)
}
