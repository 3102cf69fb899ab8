"""Trained nets on corrupted images, adapted without labels (Schneider et al. 2020, Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from minitrain.experiments.data import Data
from minitrain.experiments.experiment import Experiment, Figure, Row
from minitrain.experiments.line_figure import drawing
from minitrain.experiments.lines import Line, Lines
from minitrain.experiments.norms.nets import Array, NetSettings, error_of, net, shuffled, train
from minitrain.experiments.training import in_threads
from minitrain.experiments.watch import Watch
from minitrain.experiments.words import percent

__all__ = ["ADAPTATION", "CORRUPTIONS", "AdaptationSettings"]

STRENGTHS = (1, 2, 3, 4, 5)
METHODS = {
    "as trained": None,
    "statistics": "statistics",
    "mixture": "mixture",
    "tent": "tent",
}
NORMS = {"batch": tuple(METHODS), "group": ("as trained", "tent")}
NAMES = {"batch": "batch norm", "group": "group norm"}
SAME = 0.01  # errors closer than this are called about the same


def noise(x: Array, strength: int) -> Array:
    """Add Gaussian noise of 0.3 times the strength standard deviations of the pixels."""
    return x + 0.3 * strength * np.random.default_rng(strength).standard_normal(x.shape)


def blur(x: Array, strength: int) -> Array:
    """Blur by a Gaussian of 0.25 times the strength pixels."""
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, 0.25 * strength, 0.25 * strength), mode="nearest"))


def contrast(x: Array, strength: int) -> Array:
    """Take 17 % of the contrast for each unit of strength."""
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(mean + (x - mean) * (1.0 - 0.17 * strength))


def brightness(x: Array, strength: int) -> Array:
    """Add 0.5 standard deviations of the pixels for each unit of strength."""
    return x + 0.5 * strength


def shift(x: Array, strength: int) -> Array:
    """Move the image by 0.2 pixels to the right and down for each unit of strength."""
    return np.asarray(ndimage.shift(x, (0, 0, 0.2 * strength, 0.2 * strength), order=1, mode="nearest"))


CORRUPTIONS: dict[str, Callable[[Array, int], Array]] = {
    "noise": noise, "blur": blur, "contrast": contrast, "brightness": brightness, "shift": shift,
}  # fmt: skip


@dataclass(frozen=True)
class AdaptationSettings(NetSettings):
    """Nets are trained on clean images."""

    batch_size: int = 32
    steps: int = 500
    learning_rate: float = 0.05
    strengths: tuple[int, ...] = STRENGTHS
    tent_epochs: int = 5
    tent_rate: float = 3e-3

    def work(self) -> float:
        return float(self.depth * self.seeds * len(NORMS) * self.steps)


def run(data: Data, settings: AdaptationSettings, seed: int, watch: Watch) -> Lines:
    """Train nets with batch and with group norm; test them on all corruptions, by each method."""

    def errors(case: tuple[str, int]) -> dict[tuple[str, int, str], float]:
        norm, number = case
        start = seed + number
        model = net(settings, data, norm, start)
        drawn = shuffled(data, settings.batch_size, start)
        trainer = train(model, drawn, settings.steps, settings.learning_rate, watch, settings.depth)
        params, state = model.flat_params.copy(), model.flat_state.copy()
        found = {}
        for corruption, corrupt in CORRUPTIONS.items():
            for strength in settings.strengths:
                x = corrupt(data.x_test, strength).astype(np.float32)
                for name in NORMS[norm]:
                    model.flat_params[...], model.flat_state[...] = params, state
                    method: Any = METHODS[name]
                    if method is not None:
                        rate, epochs = settings.tent_rate, settings.tent_epochs
                        trainer.adapt(x, method, learning_rate=rate, epochs=epochs)
                    found[corruption, strength, name] = error_of(trainer, x, data.y_test)
        return found

    numbers = range(settings.seeds)
    cases = [(norm, k) for norm in NORMS for k in numbers]
    by_case = dict(zip(cases, in_threads(errors, cases, watch), strict=True))
    strengths = [float(each) for each in settings.strengths]
    return Lines([
        Line(corruption, f"{NAMES[norm]}, {name}", strengths, [
            [by_case[norm, k][corruption, strength, name] for k in numbers] for strength in settings.strengths
        ])
        for corruption in CORRUPTIONS for norm, names in NORMS.items() for name in names
    ])  # fmt: skip


def about(result: Lines) -> str:
    """Say what each method gives over all corruptions, and whether the papers' order shows."""
    source, statistics, mixture, tent = (result.mean(f"batch norm, {name}") for name in METHODS)
    group, group_tent = (result.mean(f"group norm, {name}") for name in NORMS["group"])
    sentences = [
        f"Over all corruptions and strengths the net with batch norm makes {percent(source)} errors as it was trained, "
        f"{percent(statistics)} with the statistics of the corrupted images, {percent(mixture)} with a mixture of both "
        f"and {percent(tent)} after its scales and shifts learned to be sure of themselves."
    ]
    if source > statistics + SAME and statistics >= tent - SAME:
        sentences.append("That is the order which Wang et al. 2021 report: source, norm, tent.")
    else:
        sentences.append("The order that Wang et al. 2021 report (source, norm, tent) does not show here.")
    sentences.append(
        f"The net with group norm makes {percent(group)}; it has no statistics that could be adapted, and "
        f"{percent(group_tent)} after the same learning."
    )
    worse = [
        panel
        for panel in result.panels
        if _mean(result, f"{NAMES['batch']}, statistics", panel) > _mean(result, f"{NAMES['batch']}, as trained", panel)
    ]
    if worse:
        sentences.append(f"New statistics do harm under {', '.join(worse)}.")
    return " ".join(sentences)


def _mean(result: Lines, name: str, panel: str) -> float:
    return float(np.mean(result.of(name, panel).means))


def rows(result: Lines) -> list[Row]:
    """Return the errors over all corruptions."""
    names = dict.fromkeys(line.name for line in result.lines)
    return [(f"test error over all corruptions: {name}", percent(result.mean(name))) for name in names]


def choices(settings: AdaptationSettings) -> list[str]:
    """Return what is done to the images, and how nets adapt."""
    return [
        "Corruptions: Gaussian noise of 0.3 to 1.5 standard deviations of the pixels, a Gaussian blur of 0.25 to 1.25 "
        "pixels, 17 to 85 % less contrast, 0.5 to 2.5 standard deviations more brightness, 0.2 to 1 pixel to the "
        "right and down. Each net adapts to all test images of one corruption and strength, without their labels; "
        f"tent makes {settings.tent_epochs} passes with "
        f"Adam at {settings.tent_rate:g}."
    ]


ADAPTATION: Experiment[Any, Any] = Experiment(
    name="adaptation",
    title="adaptation",
    full=AdaptationSettings(),
    quick=AdaptationSettings(seeds=1, steps=150, strengths=(1, 3, 5), tent_epochs=2),
    run=run,
    result=Lines,
    figures=(
        Figure(
            "adaptation",
            "Adaptation to corrupted images",
            "Nets that were trained on clean images, tested on corrupted ones.",
            drawing("strength", logarithmic=False),
            about,
        ),
    ),
    rows=rows,
    choices=choices,
)
