"""Nets behind scikit-learn's interface against its own, with the defaults of both, on the data sets it comes with.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.sklearn_mlp     # two minutes: the peers take most of them
    python -m benchmarks.sklearn_mlp iris digits --seeds 1
    python -m benchmarks.sklearn_mlp --ours batch_size=64 hidden=200      # without the peers: what a default is worth

One thread for BLAS is what is best for the peers, too: products of nets of this size gain nothing from two, and where
another program has one of the cores, their fits take several times as long.
Five folds, drawn anew with each seed. `fit` of all candidates runs fold by fold, one beside the other, in an order that
rotates; the time is the 20th percentile over folds and seeds. "scaled" is the peer behind a `StandardScaler`, which
`NetClassifier` and `NetRegressor` have within.
"""

from __future__ import annotations

import argparse
import ast
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from benchmarks.timing import PERCENTILE, REST, geometric_mean, installed, interleave, machine, markdown, write_json

__all__ = ["DATA", "run"]

DATA = ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")
# Of linnerud's 20 samples none tells anything about another: any score is chance.
REGRESSIONS = ("diabetes", "linnerud")
OURS = "minitrain"


class Measured(NamedTuple):
    """What came of one candidate on one data set.

    Attributes
    ----------
    score : float
        Mean over folds and seeds: accuracy, or R2.
    spread : float
        Standard deviation of the means of the seeds.
    fit, predict : float
        Milliseconds.
    """

    score: float
    spread: float
    fit: float
    predict: float


def candidates(name: str, parameters: Mapping[str, Any], peers: bool) -> dict[str, Callable[[int], Any]]:
    """Return what makes each estimator from a seed."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from minitrain.sklearn import NetClassifier, NetRegressor

    net, mlp = (NetRegressor, MLPRegressor) if name in REGRESSIONS else (NetClassifier, MLPClassifier)
    ours = {OURS: lambda seed: net(random_state=seed, **parameters)}
    theirs = {
        mlp.__name__: lambda seed: mlp(random_state=seed),
        "scaled": lambda seed: make_pipeline(StandardScaler(), mlp(random_state=seed)),
    }
    return ours | theirs if peers else ours


def measure(name: str, makers: Mapping[str, Callable[[int], Any]], seeds: int, folds: int = 5) -> dict[str, Measured]:
    """Fit every candidate in every fold, `seeds` times."""
    from sklearn import datasets
    from sklearn.base import is_regressor
    from sklearn.model_selection import KFold, StratifiedKFold

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    names = list(makers)
    for make in makers.values():  # loads kernels and libraries
        make(0).fit(X, y)
    scores: dict[str, list[list[float]]] = {each: [] for each in names}
    seconds: dict[str, list[float]] = {each: [] for each in names}
    fitted: dict[str, Any] = {}
    for seed in range(seeds):
        kind = KFold if is_regressor(makers[OURS](0)) else StratifiedKFold
        for fold, (train, test) in enumerate(kind(folds, shuffle=True, random_state=seed).split(X, y)):
            for each in names[fold % len(names) :] + names[: fold % len(names)]:
                estimator = makers[each](seed)
                time.sleep(REST)  # until the threads of the one before are at rest
                start = time.perf_counter()
                fitted[each] = estimator.fit(X[train], y[train])
                seconds[each].append(time.perf_counter() - start)
                if fold == 0:
                    scores[each].append([])
                scores[each][-1].append(fitted[each].score(X[test], y[test]))
    predicting = interleave({each: _prediction(fitted[each], X) for each in names}, seconds=1.0)
    return {
        each: Measured(
            float(np.mean(scores[each])),
            float(np.std(np.mean(scores[each], axis=1))),
            1e3 * float(np.percentile(seconds[each], PERCENTILE)),
            predicting[each].milliseconds,
        )
        for each in names
    }


def _prediction(estimator: Any, X: Any) -> Callable[[], object]:
    return lambda: estimator.predict(X)


def run(names: Sequence[str], seeds: int, parameters: Mapping[str, Any], peers: bool = True) -> dict[str, Any]:
    """Measure the data sets; print the table and return what it was made of."""
    from sklearn.exceptions import ConvergenceWarning

    results: dict[str, dict[str, Measured]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the peers say it of most of these, with their defaults
        for name in names:
            results[name] = measure(name, candidates(name, parameters, peers), seeds)
            print(name, *(f"{key}: {_text(each)}" for key, each in results[name].items()), sep="\n  ", flush=True)
    print("\n" + table(results, peers))
    return {"sklearn-mlp": {name: {key: each._asdict() for key, each in row.items()} for name, row in results.items()}}


def _text(measured: Measured) -> str:
    score = f"{measured.score:.4f} +- {measured.spread:.4f}"
    return f"{score}, fit {measured.fit:.1f} ms, predict {measured.predict:.3f} ms"


def table(results: Mapping[str, Mapping[str, Measured]], peers: bool) -> str:
    """Return a row for each data set; times of all samples."""
    labels = (OURS, *(("MLP", "scaled") if peers else ()))
    header = ["data set", *(f"{kind}{label}" for kind in ("score ", "fit ms ", "predict ms ") for label in labels)]
    rows: list[list[object]] = []
    for name, row in results.items():
        every = list(row.values())
        scores = [f"{each.score:.3f}" for each in every]
        rows.append([name, *scores, *(each.fit for each in every), *(each.predict for each in every)])
    if peers:
        for field in ("fit", "predict"):
            ratios = [
                geometric_mean(
                    [getattr(list(row.values())[k], field) / getattr(row[OURS], field) for row in results.values()]
                )
                for k in (1, 2)
            ]
            print(f"{field}: times of the peers over ours, geometric mean: {ratios[0]:.1f}, scaled {ratios[1]:.1f}")
    return markdown(header, rows)


def _parameter(text: str) -> tuple[str, Any]:
    """Return name and value of `name=value`; what is no literal is a string."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sklearn_mlp", description="Compare with scikit-learn.")
    parser.add_argument("names", nargs="*", metavar="DATA", help=f"of {', '.join(DATA)}; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", nargs="+", type=_parameter, metavar="NAME=VALUE", help="parameters; no peers then")
    parser.add_argument("--json", metavar="FILE", help="write what was measured there, too")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in DATA]
    if unknown:
        parser.error(f"DATA: expected some of {', '.join(DATA)}, got {unknown[0]}")
    results: dict[str, Any] = {
        "machine": machine(numba.get_num_threads()) | {"scikit-learn": installed("scikit-learn")}
    }
    for name, text in results["machine"].items():
        print(f"- {name}: {text}")
    results |= run(options.names or list(DATA), options.seeds, dict(options.ours or ()), peers=not options.ours)
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
