"""The page of a job: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from minitrain.experiments.experiment import Figure, Job
from minitrain.experiments.results import Results
from minitrain.experiments.summary import summary_rows

__all__ = ["render"]

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


def render(job: Job, results: Results, figures: dict[str, bytes]) -> str:
    """Return the page as HTML, with the figures inside.

    Parameters
    ----------
    job : Job
    results : Results
    figures : dict of name to PNG file
    """
    text, data = job.text, results.data
    unfinished = "" if results.finished else "<p><strong>The run was stopped before its end.</strong></p>"
    body = [
        f"<h1>{escape(text.title)}</h1>",
        f'<p class="lead">{escape(text.compared)}, alike in everything else, trained on '
        f"{data.training_images:,} images of {escape(data.name)} and tested on {data.test_images:,} others "
        f"by <code>minitrain {job.command}</code> ({escape(results.settings.name)} settings, "
        f"seed {results.seed}).</p>",
        unfinished,
        "<h2>In short</h2>",
        _table(text.headings, summary_rows(job, results)),
        *_sections(job, results, figures),
        *_words(results),
        "<h2>How it was measured, and why so</h2>",
        _list(_choices(job, results)),
        "<h2>Settings</h2>",
        _settings(job, results),
        "<h2>Where it ran</h2>",
        _table(("", ""), [*results.environment.to_json().items(), *_seconds(results)]),
        "<h2>Sources</h2>",
        _list(text.sources),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(text.short_title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _words(results: Results) -> list[str]:
    if not results.outcomes:
        return []
    return [
        "<h2>What the words mean</h2>",
        "<p>What a run is called: the first row that applies, read from the bottom up.</p>",
        _table(("word", "meaning"), results.outcomes.items()),
    ]


def _sections(job: Job, results: Results, figures: dict[str, bytes]) -> list[str]:
    return [
        _section(figure, result, figures[figure.name])
        for experiment, result in job.finished(results.experiments)
        for figure in experiment.figures
    ]


def _section(figure: Figure[Any], result: Any, png: bytes) -> str:
    source = base64.b64encode(png).decode("ascii")
    return (
        f"<h2>{escape(figure.heading)}</h2>\n<p>{escape(figure.say(result))}</p>\n<figure>\n"
        f'<img alt="{escape(figure.caption, quote=True)}" src="data:image/png;base64,{source}">\n'
        f"<figcaption>{escape(figure.caption)}</figcaption>\n</figure>"
    )


def _choices(job: Job, results: Results) -> list[str]:
    chosen = [
        each for experiment in job.experiments for each in experiment.choices(results.settings.of[experiment.name])
    ]
    return [*job.text.first_choices, *chosen, *job.text.last_choices]


def _settings(job: Job, results: Results) -> str:
    """Return a table with one column for each experiment."""
    columns = [results.settings.of[experiment.name].to_json() for experiment in job.experiments]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [
        (name.replace("_", " "), *(_value(column[name]) if name in column else "" for column in columns))
        for name in names
    ]
    return _table(("setting", *(experiment.name.replace("_", " ") for experiment in job.experiments)), rows)


def _seconds(results: Results) -> list[tuple[str, str]]:
    return [(f"seconds, {name.replace('_', ' ')}", f"{seconds:.1f}") for name, seconds in results.seconds.items()]


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
