"""Text tables: widths, sides, rules."""

import pytest

from minitrain.terminal.tables import format_table

ROWS = [("layer", "kind", "ms"), ("a-long-name", "Dense", "1.25"), ("b", "", "10")]


def test_columns_are_as_wide_as_their_widest_cell():
    assert format_table(ROWS, align="<<>", rules="none").splitlines() == [
        "layer        kind     ms",
        "a-long-name  Dense  1.25",
        "b                     10",
    ]


def test_the_last_side_stands_for_all_columns_after_it():
    assert format_table(ROWS, align="<>", rules="none") == format_table(ROWS, align="<>>", rules="none")


@pytest.mark.parametrize("align", ["<", ">", "<>"])
def test_rules_span_the_table(align):
    lines = format_table(ROWS, align=align).splitlines()
    assert lines[1] == lines[-1] == "-" * max(map(len, lines))
    assert len(lines) == len(ROWS) + 2


def test_rules_of_columns_stand_under_the_headings():
    assert format_table(ROWS, rules="columns").splitlines()[1] == "-----------  -----  ----"
    assert format_table(ROWS[:1], rules="columns") == "layer  kind  ms\n-----  ----  --"


def test_no_line_ends_in_blanks():
    assert not any(line.endswith(" ") for line in format_table([("a", "b"), ("c", "")]).splitlines())


def test_rows_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        format_table([("a", "b"), ("c",)])
