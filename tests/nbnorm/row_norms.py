"""The norms of rows, each with its float64 twin: an entry here gets the tests of numerics, arguments and memory.

`@each` runs a test for all of them, `@each_with_twin_of_pytorch` for those that PyTorch has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import nbnorm


@dataclass(frozen=True)
class RowNorm:
    """A norm as the tests call it: forward(x, gamma, beta, tau, ...), backward(dy, x, stats, gamma, beta, tau, ...)."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    split: Callable[[tuple[int, ...]], tuple[Any, ...]]  # shape -> shape, axes of a row, shape of gamma there
    own: Callable[[tuple[int, ...]], tuple[int, ...]]  # shape of gamma and beta
    shapes: tuple[tuple[int, ...], ...]  # that take each way through the kernels
    torch: Callable[..., Any] | None = None  # (functional, x, gamma, beta, eps)
    centered: bool = True
    has_beta: bool = True
    has_tau: bool = False
    fuses: bool = True  # takes an activation and a residual

    def __str__(self) -> str:
        return self.name

    def parameters(self, shape, dtype, seed=3):
        """gamma, beta, tau; None where the norm has none."""
        rng = np.random.default_rng(seed)
        gamma, beta, tau = (rng.standard_normal(self.own(shape)).astype(dtype) for _ in range(3))
        return gamma, beta if self.has_beta else None, tau - 1 if self.has_tau else None

    def statistics(self, x):
        """Mean and biased variance of the rows in float64, or 0 and the mean of squares."""
        shape, axes, _ = self.split(x.shape)
        x = np.asarray(x, np.float64).reshape(shape)
        mean = x.mean(axes, keepdims=True) if self.centered else np.zeros_like(x.mean(axes, keepdims=True))
        return mean, ((x - mean) ** 2).mean(axes, keepdims=True)

    def twin(self, x, gamma=None, beta=None, tau=None, eps=1e-5, relu=False, residual=None):
        """y"""
        shape, _, own = self.split(x.shape)
        mean, var = self.statistics(x)
        y = (np.asarray(x, np.float64).reshape(shape) - mean) / np.sqrt(var + eps)
        y = y * (1.0 if gamma is None else np.asarray(gamma, np.float64).reshape(own))
        y = y + (0.0 if beta is None else np.asarray(beta, np.float64).reshape(own))
        y = y.reshape(x.shape) if residual is None else y.reshape(x.shape) + residual
        y = np.where(y <= 0, 0, y) if relu else y
        if tau is None:
            return y
        low = np.broadcast_to(np.asarray(tau, np.float64).reshape(own), shape).reshape(x.shape)
        return np.where(y <= low, low, y)

    def gradients(self, dy, x, gamma=None, beta=None, tau=None, eps=1e-5, passed=True):
        """dx, dgamma, dbeta, dtau; `passed` is where dy passes, everywhere by default."""
        shape, axes, own = self.split(x.shape)
        mean, var = self.statistics(x)
        g = np.where(passed, dy, 0).astype(np.float64).reshape(shape)
        inv = 1 / np.sqrt(var + eps)
        x_hat = (np.asarray(x, np.float64).reshape(shape) - mean) * inv
        h = g * (1.0 if gamma is None else np.asarray(gamma, np.float64).reshape(own))
        middle = h.mean(axes, keepdims=True) if self.centered else 0.0
        dx = inv * (h - middle - x_hat * (h * x_hat).mean(axes, keepdims=True))
        shared = tuple(axis for axis, size in enumerate(own) if size == 1)
        blocked = np.asarray(dy, np.float64).reshape(shape) - g
        parts = [part.sum(shared).reshape(self.own(x.shape)) for part in (g * x_hat, g, blocked)]
        return dx.reshape(x.shape), *parts

    def run(self, x, gamma, beta, tau, dy, eps=1e-5):
        """y and the gradients that apply, by name."""
        y, stats = self.forward(x, gamma, beta, tau, eps=eps)
        grads = self.backward(dy, x, stats, gamma, beta, tau)
        return {"y": y, **{name: part for name, part in grads._asdict().items() if part is not None}}


def _layer_norm(name, axes, shapes):
    def split(shape):
        chosen = [axis % len(shape) for axis in axes]
        return shape, tuple(chosen), tuple(size if k in chosen else 1 for k, size in enumerate(shape))

    trailing = axes == tuple(range(-len(axes), 0))
    return RowNorm(
        name,
        lambda x, gamma, beta, tau=None, **rest: nbnorm.layer_norm_forward(x, gamma, beta, axes=axes, **rest),
        lambda dy, x, stats, gamma, beta, tau=None, **rest: nbnorm.layer_norm_backward(
            dy, x, stats, gamma, beta, axes=axes, **rest
        ),
        split,
        lambda shape: tuple(shape[axis] for axis in sorted(axis % len(shape) for axis in axes)),
        shapes,
        (lambda functional, x, gamma, beta, eps: functional.layer_norm(x, x.shape[axes[0] :], gamma, beta, eps))
        if trailing
        else None,
    )


def _rms_norm(x, gamma, beta=None, tau=None, eps=1e-5, **rest):
    return nbnorm.rms_norm_forward(x, gamma, eps=eps, **rest)


def _rms_norm_backward(dy, x, stats, gamma, beta=None, tau=None, **rest):
    return nbnorm.rms_norm_backward(dy, x, stats, gamma, **rest)


def _by_channel(shape):
    return shape, tuple(range(2, len(shape))), (1, shape[1], *[1] * (len(shape) - 2))


def _in_groups(groups):
    def split(shape):
        inside = shape[1] // groups
        whole = (shape[0], groups, inside, *shape[2:])
        return whole, tuple(range(2, len(whole))), (1, groups, inside, *[1] * (len(shape) - 2))

    return split


def _group_norm(groups, shapes):
    return RowNorm(
        f"group_norm_{groups}",
        lambda x, gamma, beta, tau=None, **rest: nbnorm.group_norm_forward(x, groups, gamma, beta, **rest),
        lambda dy, x, stats, gamma, beta, tau=None, **rest: nbnorm.group_norm_backward(
            dy, x, stats, gamma, beta, groups=groups, **rest
        ),
        _in_groups(groups),
        lambda shape: shape[1:2],
        shapes,
        lambda functional, x, gamma, beta, eps: functional.group_norm(x, groups, gamma, beta, eps),
    )


NORMS = [
    _layer_norm("layer_norm", (-1,), ((300, 768), (37, 50), (5, 3, 7), (70, 1), (3, 40001), (2, 100, 64))),
    _layer_norm("layer_norm_of_images", (-3, -2, -1), ((6, 4, 5, 5), (20, 3, 40, 40), (2, 1, 2, 3))),
    _layer_norm("layer_norm_of_channels", (1,), ((3, 20, 6, 7), (2, 64, 30, 30), (5, 3, 1, 9), (2, 300, 11))),
    _layer_norm("layer_norm_of_others", (0, 2), ((5, 4, 3), (40, 50, 60))),
    RowNorm(
        "rms_norm", _rms_norm, _rms_norm_backward, lambda shape: (shape, (-1,), (*[1] * (len(shape) - 1), shape[-1])),
        lambda shape: shape[-1:], ((300, 768), (37, 50), (5, 3, 7), (3, 40001)),
        lambda functional, x, gamma, beta, eps: functional.rms_norm(x, x.shape[-1:], gamma, eps),
        centered=False, has_beta=False,
    ),
    _group_norm(2, ((6, 8, 5, 5), (20, 64), (2, 4, 90, 90), (3, 40, 7, 3), (40, 6, 1, 1), (4, 16, 33))),
    _group_norm(1, ((6, 8, 5, 5), (20, 64), (3, 5, 60, 60))),
    RowNorm(
        "instance_norm",
        lambda x, gamma, beta, tau=None, **rest: nbnorm.instance_norm_forward(x, gamma, beta, **rest),
        lambda dy, x, stats, gamma, beta, tau=None, **rest: nbnorm.instance_norm_backward(
            dy, x, stats, gamma, beta, **rest
        ),
        _by_channel, lambda shape: shape[1:2],
        ((6, 8, 5, 5), (3, 70, 7, 7), (2, 3, 90, 90), (3, 4, 2), (4, 30, 3, 4, 5), (2, 64, 32, 32)),
        lambda functional, x, gamma, beta, eps: functional.instance_norm(x, weight=gamma, bias=beta, eps=eps),
    ),
    RowNorm(
        "filter_response_norm",
        lambda x, gamma, beta, tau, **rest: nbnorm.filter_response_norm_forward(x, gamma, beta, tau, **rest),
        lambda dy, x, stats, gamma, beta, tau, **rest: nbnorm.filter_response_norm_backward(
            dy, x, stats, gamma, beta, tau, **rest
        ),
        _by_channel, lambda shape: shape[1:2], ((6, 8, 5, 5), (2, 3, 90, 90), (3, 4, 2)),
        centered=False, has_tau=True, fuses=False,
    ),
    RowNorm(
        "weight_standardization",
        lambda x, gamma, beta=None, tau=None, **rest: nbnorm.weight_standardization_forward(x, gamma, **rest),
        lambda dy, x, stats, gamma, beta=None, tau=None, **rest: nbnorm.weight_standardization_backward(
            dy, x, stats, gamma, **rest
        ),
        lambda shape: (shape, tuple(range(1, len(shape))), (shape[0], *[1] * (len(shape) - 1))),
        lambda shape: shape[:1], ((64, 32, 3, 3), (10, 7), (3, 1, 2, 2)),
        has_beta=False, fuses=False,
    ),
]  # fmt: skip

each = pytest.mark.parametrize("norm", NORMS, ids=str)
each_that_fuses = pytest.mark.parametrize("norm", [norm for norm in NORMS if norm.fuses], ids=str)


def each_and_shape(chosen=lambda norm: True):
    """Run a test for all norms that are chosen, and all of their shapes."""
    cases = [pytest.param(norm, shape, id=f"{norm}-{shape}") for norm in NORMS if chosen(norm) for shape in norm.shapes]
    return pytest.mark.parametrize(("norm", "shape"), cases)


def draw(shape, dtype="float32", seed=0):
    """x, dy, residual"""
    rng = np.random.default_rng(seed)
    return [part.astype(dtype) for part in (rng.standard_normal(shape) * 2 + 1, *rng.standard_normal((2, *shape)))]


def length_of(norm, shape):
    """Elements of a row."""
    split, axes, _ = norm.split(shape)
    return math.prod(split[axis] for axis in axes)
