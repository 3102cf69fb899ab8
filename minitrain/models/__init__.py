"""Nets: functions that return a new `Model`."""

from collections.abc import Callable

from minitrain.model import Model
from minitrain.models._norms import KINDS as _KINDS
from minitrain.models.articles import article_a, article_b, article_c
from minitrain.models.classic import lenet, mlp, plain
from minitrain.models.densenet import densenet_bc
from minitrain.models.mobilenet import mobilenet_v1, mobilenet_v2
from minitrain.models.resnet import resnet18, resnet20, resnet34, resnet50
from minitrain.models.wide_resnet import wide_resnet

__all__ = [
    "MODELS",
    "NORMS",
    "SMALL_MODELS",
    "article_a",
    "article_b",
    "article_c",
    "densenet_bc",
    "lenet",
    "mlp",
    "mobilenet_v1",
    "mobilenet_v2",
    "plain",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "wide_resnet",
]

_SMALL = (mlp, lenet, plain, resnet20, article_a, article_b, article_c)
_LARGE = (resnet18, resnet34, resnet50, mobilenet_v1, mobilenet_v2, densenet_bc, wide_resnet)

# By name, for the command line. All take input_shape, classes, activation, norm, weight_scale, seed and dtype.
SMALL_MODELS: dict[str, Callable[..., Model]] = {model.__name__: model for model in _SMALL}  # take seconds to warm up
MODELS: dict[str, Callable[..., Model]] = {**SMALL_MODELS, **{model.__name__: model for model in _LARGE}}

# What `norm` of each of them may be as text, but for "before" and "after".
NORMS = tuple(_KINDS)
