import math
import re

import pytest

from lesion_exp.verbs.report.charts import (
    HEIGHT,
    WIDTH,
    Dots,
    Line,
    Mark,
    interval_bar,
    number_scale,
    parallel,
    plot,
    round_axis,
    scale_of,
    unit_axis,
)


def numbers(text, attribute):
    return [float(value) for value in re.findall(rf'{attribute}="([-\d.]+)"', text)]


@pytest.mark.parametrize("values", [[0.1, 0.9], [3.0, 3.0], [0.0, 0.0], [1e-5, 2e-3], [-4.0, 700.0], [math.nan, 2.0]])
def test_an_axis_holds_its_values_between_round_numbers(values):
    axis = round_axis("x", values)
    known = [value for value in values if math.isfinite(value)]
    assert axis.low <= min(known) <= max(known) <= axis.high
    assert 2 <= len(axis.ticks) <= 8
    assert axis.ticks[0] == axis.low < axis.high == axis.ticks[-1]


def test_epochs_have_whole_marks():
    assert all(tick == int(tick) for tick in round_axis("epoch", [0, 3], least=0.0, whole=True).ticks)


def test_points_lie_within_the_drawing():
    text = plot("a plot", unit_axis("x"), unit_axis("y"), [Dots([0, 0.5, 1], [1, 0.5, 0], [2, 2, 2])])
    assert len(numbers(text, "cx")) == 3
    assert all(0 <= value <= WIDTH for value in numbers(text, "cx"))
    assert numbers(text, "cy") == sorted(numbers(text, "cy"))  # higher values stand higher, that is at smaller y
    assert all(0 <= value <= HEIGHT for value in numbers(text, "cy"))


def test_a_curve_of_many_points_stays_small():
    many = [place / 200_000 for place in range(200_000)]
    assert len(plot("a plot", unit_axis("x"), unit_axis("y"), [Line(many, many)])) < 100_000


def test_values_that_are_no_numbers_are_left_out():
    text = plot("a plot", unit_axis("x"), unit_axis("y"), [Line([0, 0.5, 1], [0, math.nan, 1])])
    assert "nan" not in text


def test_texts_are_escaped():
    text = plot('a "plot" <b>', unit_axis("<b>"), unit_axis("y"), [Mark(0.5, "<b>")])
    assert "<b>" not in text
    assert 'aria-label="a &#34;plot&#34; &lt;b&gt;"' in text


def test_an_interval_is_kept_between_0_and_1():
    text = interval_bar(1.4, -0.3, 2.0, 0.5)
    assert numbers(text, "cx") == [116.0]
    assert 'd="M4.0 8H116.0"' in text


def test_choices_stand_evenly_and_many_numbers_on_a_scale():
    assert scale_of("seed", ["10", "2", "1"]).places == {"1": 0.0, "2": 0.5, "10": 1.0}
    many = scale_of("lr", [f"{10**-exponent:g}" for exponent in range(12)])
    assert many.label == "lr (log)"
    assert many.places["1e-05"] == pytest.approx(6 / 11)


def test_the_best_is_drawn_last():
    scale = scale_of("seed", ["1", "2"])
    text = parallel("cells", [scale, scale], [(["1", "1"], True), (["2", "2"], False)])
    assert text.index("s0 faint") < text.index("s1 best")


def test_a_scale_of_one_number_shows_that_number_alone():
    """Two choices of balanced accuracy 0.6 had an axis up to 1.2."""
    scale = number_scale("balanced accuracy", [0.6, 0.6], ["0.6", "0.60"])
    assert scale.texts == {"0.6": 0.5}
    assert scale.places == {"0.6": 0.5, "0.60": 0.5}
