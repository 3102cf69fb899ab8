"""What a user may do with a model beside training it and predicting: the methods that `Model` has from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from minitrain.layer import Shape
from minitrain.model.activations import Stateful, activations
from minitrain.model.input_gradient import Differentiated, input_gradient
from minitrain.model.run import Run, Runnable
from nbnorm.jit.arrays import Array

__all__ = ["Ways"]


class Ways:
    """Base of `Model`: runs of one's own, values inside, gradients with respect to inputs."""

    def bind(
        self: Runnable,
        batch: int | Shape | Mapping[str, Shape] | Array | Sequence[Array],
        *,
        training: bool = True,
        input_gradients: bool = False,
        keep: bool = False,
    ) -> Run:
        """Bind the model to memory of its own for batches of one shape: for one's own training loops.

        Parameters
        ----------
        batch : int, shape, mapping of the names of inputs to shapes, or arrays
            Samples in every call. Where axes are free, all the sizes: the shape of the input with the batch axis first,
            or of each input by name. Or a batch as `forward` takes it, of which only the shapes are read.
        training : bool
            Whether it runs as in training, with batch statistics and dropout, and can run backward; as `predict` does
            otherwise.
        input_gradients : bool
            Whether backward returns the gradient with respect to the inputs, too.
        keep : bool
            Whether the values of forward outlive backward, which may then run several times after one forward, as for
            the rows of a Jacobian. Takes more memory.

        Returns
        -------
        Run
            `y = run.forward(x)`, `dx = run.backward(dy)`; gradients of parameters are in `model.gradients`.

        Raises
        ------
        ValueError, TypeError
            Shapes that do not fit the model.

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Input, Model, layers
        >>> x = Input((3,))
        >>> model = Model(x, layers.Dense(2, name="head")(x))
        >>> run = model.bind(4, input_gradients=True)
        >>> run.forward(np.ones((4, 3))).shape
        (4, 2)
        >>> run.backward(np.ones((4, 2))).shape
        (4, 3)
        >>> model.gradients["head.bias"].tolist()
        [4.0, 4.0]
        """
        return Run(self, batch, training, input_gradients, keep)

    def activations(
        self: Stateful,
        x: Array | Sequence[Array],
        names: str | Iterable[str] | None = None,
        batch_size: int = 256,
        *,
        training: bool = False,
    ) -> dict[str, Array]:
        """Return values inside the net, for all samples of `x`.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        names : str or iterable of str, optional
            Names of nodes ("bn2"), of their further outputs ("rnn1.h"), of inputs, or globs of these ("conv*"). All of
            them unless given.
        batch_size : int
            Samples computed at a time: bounds the memory.
        training : bool
            Whether to compute as in training: batch norm by the statistics of each batch, with dropout. The state stays
            as it is.

        Returns
        -------
        dict of name to array of shape (samples, ...)
            The caller's own arrays.

        Raises
        ------
        ValueError
            A name that the model does not have.

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Input, Model, layers
        >>> x = Input((3,))
        >>> model = Model(x, layers.Dense(2)(layers.ReLU(name="relu1")(x)))
        >>> model.activations(np.array([[-1.0, 0.0, 2.0]]), ["relu1"])["relu1"].tolist()
        [[0.0, 0.0, 2.0]]
        """
        return activations(self, x, names, batch_size, training)

    def input_gradient(
        self: Differentiated,
        x: Array | Sequence[Array],
        output_gradient: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None,
        output: str | None = None,
        batch_size: int = 256,
    ) -> Any:
        """Return the gradient of the trained net with respect to its input: by running statistics, without dropout.

        Parameters
        ----------
        x : array of shape (samples, *input shape), or a sequence of arrays for several inputs
        output_gradient : array of the output's shape, or mapping of names of outputs to arrays, optional
            The weight of each element of the output: one-hot rows differentiate one class. All ones unless given, which
            is the gradient of each sample's sum of outputs.
        output : str, optional
            What to differentiate instead of the output: the name of an output, where there are several, or of any node.
        batch_size : int
            Samples computed at a time: bounds the memory.

        Returns
        -------
        array like x, of the model's dtype
            The caller's own. For several inputs a dictionary by their names; None for inputs of integers.

        Raises
        ------
        ValueError, TypeError
            Shapes that do not fit, an unknown output, several outputs of which none is named; a user's layer whose
            inference is not what its backward differentiates.

        Examples
        --------
        >>> import numpy as np
        >>> from minitrain import Input, Model, layers
        >>> x = Input((2,))
        >>> model = Model(x, layers.Dense(1, name="score")(x))
        >>> bool((model.input_gradient(np.zeros((5, 2))) == model.params["score.weight"]).all())
        True
        """
        return input_gradient(self, x, output_gradient, output, batch_size)
