"""Deep nets with three norms: their layers, and what is said of them."""

from made_results import made_lines

from minitrain.experiments.lines import Lines
from minitrain.experiments.stability.studies.other_norms import NORMS, about, rows
from minitrain.layers import GroupNorm


def test_words_name_the_best_norm_and_those_that_are_about_the_same():
    result = Lines.from_json({"lines": made_lines()})
    assert "At 40 layers the test errors of dense nets are 60 % with batch norm and 10 % with layer norm" in about(
        result
    )
    assert "layer norm is best" in about(result)
    close = made_lines()
    close[1]["errors"][1] = [0.6, 0.61]
    assert "batch norm and layer norm are about the same" in about(Lines.from_json({"lines": close}))
    assert rows(result)[0] == ("40 layers, dense, ReLU: test accuracy with batch, layer norm", "", "40 %, 90 %")


def test_group_norm_has_groups_of_several_channels():
    assert NORMS["group norm"]() == GroupNorm(4)
