"""Draw the results of asv as one page that needs no network: trend of every benchmark, regressions marked.

python -m benchmarks.publish          # from benchmarks/.asv/results to benchmarks/.asv/pages/index.html

`asv publish` makes a site of more views, whose scripts a browser fetches from the network; without it they stay blank.
Steps and regressions are found by asv's own algorithm.
"""

from __future__ import annotations

import argparse
import html
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from .results import Machine, Trend, read

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / ".asv" / "results"
PAGES = FOLDER / ".asv" / "pages"
# -------------------------------------------------------------------------------------------------------------- drawing


def draw(trend: Trend, commits: Sequence[tuple[str, datetime]], path: Path) -> None:
    """Draw all series of a benchmark over the commits; a red ring is where a regression begins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    factor, unit = scale(
        max(value for values in trend.series.values() for value in values if value == value), trend.unit
    )
    axes.set_prop_cycle(color=pyplot.colormaps["tab10" if len(trend.series) <= 10 else "tab20"].colors)
    for label, values in trend.series.items():
        axes.plot([value * factor for value in values], marker="o", markersize=3, linewidth=1.2, label=label or None)
    for regression in trend.regressions:
        value = trend.series[regression.parameters][regression.position] * factor
        axes.plot(regression.position, value, "o", markersize=11, fillstyle="none", color="crimson", markeredgewidth=2)
    values = [value for values in trend.series.values() for value in values if value > 0]
    if values and max(values) > 10 * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None if not values else 1.08 * max(values) * factor)
    shown = range(0, len(commits), max(1, len(commits) // 12))
    axes.set_xticks(list(shown), [commits[each][0][:8] for each in shown], rotation=45, ha="right", fontsize=7)
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    if any(trend.series):
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def scale(largest: float, unit: str) -> tuple[float, str]:
    """Factor and unit in which numbers up to `largest` are easy to read."""
    if unit == "bytes":
        return 2.0**-20, "MiB"
    if unit != "seconds":
        return 1.0, unit
    for factor, name in ((1.0, "s"), (1e3, "ms")):
        if largest * factor >= 1:
            return factor, name
    return 1e6, "µs"


def amount(value: float, unit: str) -> str:
    factor, name = scale(value, unit)
    return f"{value * factor:.4g} {name}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------------------------------- the page

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 82em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; }
td, th { padding: .2em .9em .2em 0; text-align: left; border-bottom: 1px solid #ddd; }
.worse { color: crimson; font-weight: 600; } .plots { display: flex; flex-wrap: wrap; gap: 1em; }
figure { margin: 0; border: 1px solid #ddd; border-radius: 6px; padding: .6em; }
figure.regressed { border: 2px solid crimson; }
figcaption { font-family: ui-monospace, monospace; font-size: 13px; }
img { width: 39em; max-width: 100%; display: block; }
"""


def page(machines: Sequence[Machine]) -> str:
    """The HTML of all machines; images are beside it."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>minitrain benchmarks</title><style>{STYLE}</style>"
    ]
    parts.append("<h1>minitrain benchmarks</h1>")
    for machine in machines:
        parts.extend(_section(machine))
    return "\n".join(parts)


def _section(machine: Machine) -> Iterator[str]:
    cpu, cores, system = (html.escape(str(machine.about.get(key, "?"))) for key in ("cpu", "num_cpu", "os"))
    first, last = machine.commits[0], machine.commits[-1]
    yield f"<h2>{html.escape(machine.name)}</h2>"
    yield f"<p>{cpu}, {cores} cores, {system}."
    commits = count(len(machine.commits), "commit")
    yield f"{commits}, {first[0][:8]} ({first[1]:%Y-%m-%d}) to {last[0][:8]} ({last[1]:%Y-%m-%d})."
    yield "A red ring is where a regression begins.</p>"
    yield from _regression_table(machine)
    for module, trends in itertools.groupby(machine.trends, lambda trend: trend.name.split(".")[0]):
        yield f"<h3>{html.escape(module.removeprefix('benchmark_').replace('_', ' '))}</h3><div class=plots>"
        for trend in trends:
            kind = " class=regressed" if trend.regressions else ""
            source = f"{machine.folder_name}/{trend.file_name}"
            caption = html.escape(trend.name.partition(".")[2])
            yield f"<figure{kind}><figcaption>{caption}</figcaption><img src='{source}' alt='{caption}'></figure>"
        yield "</div>"


def _regression_table(machine: Machine) -> Iterator[str]:
    found = [(trend, regression) for trend in machine.trends for regression in trend.regressions]
    if not found:
        yield "<p>No regressions.</p>"
        return
    yield "<table><tr><th>Regression<th>Parameters<th>Since<th>Before<th>After<th>Factor"
    for trend, regression in sorted(found, key=lambda each: -abs(math.log(each[1].factor or math.inf))):
        before, after = amount(regression.before, trend.unit), amount(regression.after, trend.unit)
        commit = machine.commits[regression.position][0][:8]
        cells = (trend.name.partition(".")[2], regression.parameters, commit, before, after)
        row = "".join(f"<td>{html.escape(cell)}" for cell in cells)
        yield f"<tr>{row}<td class=worse>{regression.factor:.2f}"
    yield "</table>"


def publish(results: Path, pages: Path) -> list[Machine]:
    """Write the page and its images; returns what was found."""
    machines = read(results)
    for machine in machines:
        folder = pages / machine.folder_name
        folder.mkdir(parents=True, exist_ok=True)
        for trend in machine.trends:
            draw(trend, machine.commits, folder / trend.file_name)
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "index.html").write_text(page(machines), encoding="utf-8")
    return machines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.publish", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="results folder of asv (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=PAGES, help="where to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not (options.results / "benchmarks.json").is_file():
        print(f"no results in {options.results}: run asv first (CONTRIBUTING.md says how)", file=sys.stderr)
        return 2
    machines = publish(options.results, options.out)
    regressions = sum(len(trend.regressions) for machine in machines for trend in machine.trends)
    print(f"{options.out / 'index.html'}: {count(regressions, 'regression')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
