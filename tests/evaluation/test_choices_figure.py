import pytest

from lesion_exp.evaluation.figures.forest_plots import MOST_ROWS, ChoiceRow, choices_figure


def row(number: int, low: float | None = 0.4, is_worse: bool = False) -> ChoiceRow:
    name = " ".join(f"optimizer.some_long_key_{key}={number}" for key in range(6))
    return ChoiceRow(name, [0.5, 0.7], 0.6, low, None if low is None else 0.8, is_worse)


@pytest.mark.parametrize("count", [1, 2, 25])
def test_what_is_drawn_are_the_values_means_and_intervals_of_the_rows(count: int) -> None:
    rows = [row(number, is_worse=number > 0) for number in range(count)]
    figure = choices_figure(rows, "val/balanced_accuracy")
    (axes,) = figure.axes
    assert figure.get_figwidth() * 150 <= 750, "wider pictures leave the description in MLflow's page"
    shown = min(count, MOST_ROWS)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(names)) == shown
    assert max(len(line) for name in names for line in name.split("\n")) <= 28
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn[:3] == [[[0.5, 0.0], [0.7, 0.0]], [[0.4, 0.0], [0.8, 0.0]], [[0.6, 0.0]]]
    assert len(drawn) == 3 * shown
    assert (f"the best {MOST_ROWS} of 25" in figure.legends[0].get_title().get_text()) == (count == 25)
    assert axes.get_ylim() == (shown - 0.5, -0.5), "the best choice is at the top"


def test_choices_that_were_run_once_have_no_interval() -> None:
    (axes,) = choices_figure([row(0, low=None), row(1, low=None)], "val/loss").axes
    assert len(axes.lines) == 4
