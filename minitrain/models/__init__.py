"""Nets: functions that return a new `Model`."""

from collections.abc import Callable

from minitrain.model import Model
from minitrain.models.articles import article_a, article_b, article_c
from minitrain.models.classic import lenet, mlp, plain
from minitrain.models.resnet import resnet20

__all__ = ["MODELS", "article_a", "article_b", "article_c", "lenet", "mlp", "plain", "resnet20"]

# By name, for the command line. All take input_shape, classes, activation, norm, weight_scale, seed and dtype.
MODELS: dict[str, Callable[..., Model]] = {
    model.__name__: model for model in (mlp, lenet, plain, resnet20, article_a, article_b, article_c)
}
