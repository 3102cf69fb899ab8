"""The report of the stability experiments: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from minitrain.experiments.stability.words import statements
from minitrain.experiments.stability.words.page import SOURCES, choices
from minitrain.experiments.stability.words.summary import HEADINGS, summary_rows
from minitrain.files import write_text

__all__ = ["render", "write_report"]

Results = dict[str, Any]

# The name of each figure, its heading, what its parts are, and the sentences made from the numbers.
FIGURES: list[tuple[str, str, str, Callable[[Results], str]]] = [
    (
        "depth",
        "Depth",
        "Test accuracy and test loss after training, against the number of layers. Marks are means over the seeds, "
        "bars reach from the lowest seed to the highest; the dotted line is guessing.",
        statements.about_depth,
    ),
    (
        "gradients_at_start",
        "Gradients at initialization",
        "The norm of the gradient of every layer's weights before the first step, on one batch (thick: the deepest "
        "nets, geometric mean and range of the seeds). Norms below 1e-10, and zeros, are drawn at 1e-10.",
        statements.about_gradients_at_start,
    ),
    (
        "gradients_in_training",
        "Gradients during training",
        "The same norms for the deepest nets at some steps of training, first seed; the steps are not evenly spaced.",
        statements.about_gradients_in_training,
    ),
    (
        "learning_rate",
        "Learning rate",
        "One net at constant learning rates. Lines join the medians over the seeds, faint marks are single runs, "
        "crosses are runs that diverged.",
        statements.about_learning_rate,
    ),
    (
        "initialization",
        "Scale of the first weights",
        "The same net from first weights multiplied by a factor, all at one learning rate.",
        statements.about_initialization,
    ),
    (
        "ioffe_szegedy",
        "Ioffe &amp; Szegedy 2015, figure 1",
        "Three hidden layers of sigmoid units: test accuracy over training, and the 15th, 50th and 85th percentile "
        "over the test images of what enters one unit of the last hidden sigmoid. The unit is the one whose drift is "
        "the median of its layer's; first seed.",
        statements.about_sigmoid,
    ),
]
CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c1c1c; background: #fff;
  max-width: 68rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p, li { max-width: 48rem; }
p.lead { font-size: 1.08rem; }
.note { color: #555; font-size: .92rem; }
figure { margin: 1rem 0 0; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: #555; font-size: .92rem; max-width: 48rem; margin-top: .4rem; }
table { border-collapse: collapse; font-size: .93rem; margin: .8rem 0; }
th, td { text-align: left; vertical-align: top; padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #999; }
td:first-child { min-width: 14rem; }
.wide { overflow-x: auto; }
@media print { body { margin: 0; } figure { break-inside: avoid; } }
"""


def write_report(path: str | os.PathLike[str], results: Results, figures: dict[str, bytes]) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    path : path
    results : dict
        As in results.json.
    figures : dict of name to PNG file
    """
    write_text(path, render(results, figures))


def render(results: Results, figures: dict[str, bytes]) -> str:
    """Return the report as HTML, with the figures inside."""
    data = results["data"]
    unfinished = "" if results["finished"] else "<p><strong>The run was stopped before its end.</strong></p>"
    body = [
        "<h1>What batch normalization does for the training of deep nets</h1>",
        f'<p class="lead">Nets with and without batch normalization, alike in everything else, trained on '
        f"{data['training_images']:,} images of {escape(data['name'])} and tested on {data['test_images']:,} others "
        f"by <code>minitrain stability</code> ({escape(results['settings']['name'])} settings, "
        f"seed {results['seed']}).</p>",
        unfinished,
        "<h2>In short</h2>",
        _table(HEADINGS, summary_rows(results)),
        *(_section(results, figures, *figure) for figure in FIGURES if figure[0] in figures),
        "<h2>What the words mean</h2>",
        "<p>What a run is called: the first row that applies, read from the bottom up.</p>",
        _table(("word", "meaning"), results["outcomes"].items()),
        "<h2>How it was measured, and why so</h2>",
        _list(choices(results)),
        "<h2>Settings</h2>",
        _settings(results),
        "<h2>Where it ran</h2>",
        _table(("", ""), [*results["environment"].items(), *_seconds(results)]),
        "<h2>Sources</h2>",
        _list(SOURCES),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Batch normalization and the training of deep nets</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _section(
    results: Results, figures: dict[str, bytes], name: str, heading: str, parts: str, say: Callable[[Results], str]
) -> str:
    source = base64.b64encode(figures[name]).decode("ascii")
    said = escape(say(results))
    return (
        f"<h2>{heading}</h2>\n<p>{said}</p>\n<figure>\n"
        f'<img alt="{escape(parts, quote=True)}" src="data:image/png;base64,{source}">\n'
        f"<figcaption>{escape(parts)}</figcaption>\n</figure>"
    )


def _settings(results: Results) -> str:
    """Return a table with one column for each experiment."""
    experiments = {name: values for name, values in results["settings"].items() if isinstance(values, dict)}
    names = list(dict.fromkeys(name for values in experiments.values() for name in values))
    rows = [
        (name.replace("_", " "), *(_value(values[name]) if name in values else "" for values in experiments.values()))
        for name in names
    ]
    return _table(("setting", *(name.replace("_", " ") for name in experiments)), rows)


def _seconds(results: Results) -> list[tuple[str, str]]:
    return [(f"seconds, {name.replace('_', ' ')}", f"{seconds:.1f}") for name, seconds in results["seconds"].items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {_value(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return " / ".join(_value(each) for each in value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    first = f"<thead><tr>{head}</tr></thead>\n" if any(headings) else ""
    return f'<div class="wide"><table>\n{first}<tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>"


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"
