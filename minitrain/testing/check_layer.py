"""All checks of the layer contract in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from minitrain.layer import Example, Layer
from minitrain.testing import checks, gradients, inference, promises
from minitrain.testing.drawing import Inputs, as_example

__all__ = ["check_layer"]

Check = tuple[str, Callable[[], None]]


def check_layer(layer: type[Layer] | Layer, inputs: Inputs | None = None) -> None:
    """Hold a layer against the contract of `minitrain.layer`.

    Gradients are compared with central differences in float64; what is written is filled with NaN before, and what
    backward does not say that it reads; nothing that is read may change; gradients that are left out change no other;
    float32 agrees with float64; any number of threads gives the same bits; nothing is allocated that grows with the
    batch; inference follows parameters and state; no call depends on the calls before it but through what is declared
    as state or carried.

    Parameters
    ----------
    layer : class, or a layer
        Of a class all `examples` are run.
    inputs : Example, or sequence of shapes and Specs, batch axis first
        For a layer that is made already, such as `check_layer(MyLayer(3), [(4, 5)])`.

    Raises
    ------
    AssertionError
        The layer does not keep the contract: says on which example, in which check, and what happened.
    TypeError
        No layer, or a layer without inputs.

    Examples
    --------
    >>> from minitrain import layers, testing
    >>> testing.check_layer(layers.Flatten)
    >>> testing.check_layer(layers.Concat(axis=-1), [(4, 3, 2), (4, 3, 5)])
    """
    if isinstance(layer, type) and issubclass(layer, Layer) and inputs is None:
        assert layer.examples, f"{layer.__name__}: expected one or more examples of inputs and arguments, got none"
        for example in layer.examples:
            _check(layer(**example.arguments), example, f"{layer.__name__}({example!r})")
    elif isinstance(layer, Layer) and inputs is not None:
        _check(layer, as_example(inputs), f"{layer!r} on {as_example(inputs)!r}")
    else:
        raise TypeError(
            "check_layer: expected a class of layers, or a layer and its inputs (shapes or Specs, batch axis first), "
            f"got {layer!r} and {inputs!r}"
        )


def _check(layer: Layer, example: Example, described: str) -> None:
    for name, run in _checks(layer, example):
        try:
            run()
        except AssertionError as error:
            raise AssertionError(f"{described}: {name}: {error}") from None
        except Exception as error:
            raise AssertionError(f"{described}: {name}: {type(error).__name__}: {error}") from error


def _checks(layer: Layer, example: Example) -> Iterator[Check]:
    """All checks by name; the serial form of kernels, but for the one that compares the forms, is compiled sooner."""

    def named(check: Callable[..., None], **arguments: Any) -> Check:
        return check.__name__.removeprefix("check_").replace("_", " "), partial(
            _serially, check, layer, example, **arguments
        )

    yield named(checks.check_declaration)
    for dtype in ("float64", "float32"):
        yield named(checks.check_reads_only, dtype=dtype)
        if layer.trains:
            yield named(checks.check_overwrites, dtype=dtype)
            yield named(checks.check_optional_gradients, dtype=dtype)
            yield named(checks.check_adds_gradient, dtype=dtype)
            yield named(checks.check_in_place, dtype=dtype)
        yield named(checks.check_remembers_nothing, dtype=dtype)
        yield named(inference.check_infers, dtype=dtype)
        yield named(inference.check_derives, dtype=dtype)
    if layer.trains:
        yield named(gradients.check_gradients)
    yield named(promises.check_float32)
    yield named(promises.check_allocates_nothing)
    yield "same bits", partial(promises.check_same_bits, layer, example)


def _serially(check: Callable[..., None], *arguments: Any, **settings: Any) -> None:
    with promises.serial_below(2**62):
        check(*arguments, **settings)
