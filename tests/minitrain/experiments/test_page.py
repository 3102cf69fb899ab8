"""The page of a job: the file needs nothing but itself."""

import re
from html.parser import HTMLParser

from minitrain.experiments.page import render
from minitrain.experiments.stability.stability import STABILITY

PNG = b"\x89PNG not really"
FIGURES = [figure.name for experiment in STABILITY.experiments for figure in experiment.figures]


class Loaded(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]


def test_report_needs_nothing_but_itself(made, read):
    html = render(STABILITY, read(made), dict.fromkeys(FIGURES, PNG))
    page = Loaded()
    page.feed(html)
    assert len(page.sources) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    for author in ("Ioffe", "Bjorck", "Santurkar", "K. He", "Yang"):
        assert author in html
    assert "momentum" in html
    assert "stopped before its end" not in html


def test_report_of_a_stopped_run_shows_what_was_finished(made, read):
    made["finished"] = False
    del made["experiments"]["ioffe_szegedy"]
    html = render(STABILITY, read(made), dict.fromkeys(set(FIGURES) - {"ioffe_szegedy"}, PNG))
    assert "stopped before its end" in html
    assert len(re.findall("<img", html)) == len(FIGURES) - 1
