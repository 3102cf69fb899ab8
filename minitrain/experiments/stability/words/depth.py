"""What the figures of depth and gradients show."""

from __future__ import annotations

from minitrain.experiments.experiment import Row
from minitrain.experiments.stability.records.depth import DepthNet, DepthResult, DepthSettings, NetSettings
from minitrain.experiments.stability.records.sides import Pair
from minitrain.experiments.words import SAME_ACCURACY, accuracy_range, join, kind_of_net, percent, times

__all__ = ["about_depth", "about_gradients_at_start", "about_gradients_in_training", "choices", "rows"]

EXPLODES = 10.0  # growth of the gradient from the last hidden layer to the first that is called exploding


def about_depth(result: DepthResult) -> str:
    """Say where the deepest nets train with and without batch norm, and what it does for the shallowest."""
    pairs = result.deepest_pairs()
    deepest, shallowest = result.depths[-1], result.depths[0]
    helped = [_compare(pair) for pair in pairs if _helps(pair)]
    sentences = []
    if helped:
        kinds = "all kinds" if len(helped) == len(pairs) else f"{len(helped)} of {len(pairs)} kinds"
        sentences.append(
            f"At {deepest} layers, batch norm decides in {kinds} of net: they are trained with it from every seed and "
            f"without it from none: {join(helped)}."
        )
    else:
        sentences.append(f"At {deepest} layers, there is no kind of net that only batch norm makes trainable.")
    rest = [pair for pair in pairs if not _helps(pair)]
    better = [_compare(pair) for pair in rest if _gain(pair) >= SAME_ACCURACY]
    useless = [_compare(pair) for pair in rest if abs(_gain(pair)) < SAME_ACCURACY]
    worse = [_compare(pair) for pair in rest if _gain(pair) <= -SAME_ACCURACY]
    if better:
        sentences.append(f"It helps, but does not decide, in {join(better)}.")
    if useless:
        sentences.append(f"It makes no difference in {join(useless)}.")
    if worse:
        sentences.append(f"It does harm in {join(worse)}.")
    needless = [_compare(pair) for pair in result.pairs(shallowest) if _gain(pair) < SAME_ACCURACY]
    if needless:
        sentences.append(
            f"At {shallowest} layers it gains less than {100 * SAME_ACCURACY:.0f} points in {join(needless)}."
        )
    return " ".join(sentences)


def about_gradients_at_start(result: DepthResult) -> str:
    """Say by how much gradients vanish or explode between the last hidden layer and the first at initialization."""
    pairs = result.deepest_pairs()
    parts = []
    for pair in pairs:
        without, with_norm = (times(net.first_gradient_ratio()) for net in (pair.without, pair.with_))
        parts.append(f"{_kind(pair)}: {without} without, {with_norm} with")
    sentences = [
        f"On the way back from the last hidden layer to the first of {result.depths[-1]} layers, the norm of the "
        f"gradient is multiplied by: {'; '.join(parts)}."
    ]
    exploding = [_kind(pair) for pair in pairs if pair.with_.first_gradient_ratio() > EXPLODES]
    if exploding:
        sentences.append(
            f"Batch norm is no cure for everything: with it the gradient explodes at initialization in "
            f"{join(exploding)}, as Yang et al. 2019 derive for deep nets with batch norm and without shortcuts."
        )
    return " ".join(sentences)


def about_gradients_in_training(result: DepthResult) -> str:
    """Say what the spread of the gradients over the layers is at the end of training."""
    parts = [
        f"{_kind(pair)}: {_decades(pair.without)} without, {_decades(pair.with_)} with"
        for pair in result.deepest_pairs()
    ]
    return (
        "Each map is one net: layers upwards, steps to the right, a common scale of colours. After the last "
        f"measurement of training, the largest and the smallest norm among the layers are apart by {'; '.join(parts)}."
    )


def rows(result: DepthResult) -> list[Row]:
    """Return accuracies and first gradients of the deepest nets."""
    accuracies, gradients = [], []
    for pair in result.deepest_pairs():
        nets, name = (pair.without, pair.with_), f"{pair.with_.depth} layers, {_kind(pair)}"
        accuracies.append((f"{name}: test accuracy", *(accuracy_range(net.runs) for net in nets)))
        ratios = (times(net.first_gradient_ratio()) for net in nets)
        gradients.append((f"{name}: gradient, first / last hidden layer", *ratios))
    return [*accuracies, *gradients]


def choices(settings: DepthSettings) -> list[str]:
    """Return how the nets are built and trained, and why."""
    return [
        "Depth: each net is trained at each of the rates below from the first seed, and the one with the lowest final "
        "training loss is taken, for nets with and without batch norm alike; the test images play no part. SGD with "
        f"momentum {settings.momentum:g}, {settings.steps} steps, rates that fall to zero along half a cosine. The "
        "runs at the other rates are in results.json.",
        *(_about_nets(nets) for nets in settings.nets),
    ]


def _about_nets(nets: NetSettings) -> str:
    width = nets.width
    if nets.kind == "dense":
        built = f"{width} units in each layer"
    else:
        built = (
            f"three stages of 3 x 3 convolutions with {width}, {2 * width} and {4 * width} filters, each stage at half "
            "the resolution of the one before, and the mean over the plane at the end"
        )
    seeds = "1 seed, so no spread is shown" if nets.seeds == 1 else f"{nets.seeds} seeds"
    tried = ", ".join(f"{rate:g}" for rate in nets.learning_rates)
    rates = f"rates {tried}" if len(nets.learning_rates) > 1 else f"the rate {tried} alone, to save time"
    steps = "" if nets.steps is None else f"{nets.steps} steps, "
    return f"The {nets.kind} nets have {built}; batches of {nets.batch_size}, {steps}{rates}, {seeds}."


def _kind(pair: Pair[DepthNet]) -> str:
    return kind_of_net(*pair.with_.group)


def _helps(pair: Pair[DepthNet]) -> bool:
    without, with_norm = ({run.outcome for run in net.runs} for net in (pair.without, pair.with_))
    return with_norm == {"trained"} and "trained" not in without


def _gain(pair: Pair[DepthNet]) -> float:
    return pair.with_.accuracy - pair.without.accuracy


def _compare(pair: Pair[DepthNet]) -> str:
    return f"{_kind(pair)} ({percent(pair.with_.accuracy)} with, {percent(pair.without.accuracy)} without)"


def _decades(net: DepthNet) -> str:
    norms = net.runs[0].gradients.norms[-1]
    known = [norm for norm in norms if norm is not None]
    if len(known) < len(norms):
        return "an unknown factor (some are not finite)"
    smallest, largest = min(known), max(known)
    return "an infinite factor (some are zero)" if smallest == 0 else f"a factor of {times(largest / smallest)}"
