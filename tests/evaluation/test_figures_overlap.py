"""No text of a picture lies on another text, on a curve or outside the picture, whatever the classes are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lesion_exp.evaluation.comparison import compared
from lesion_exp.evaluation.decision_curve import decision_curve
from lesion_exp.evaluation.figures.class_distribution import class_distribution
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import (
    decision_curve_figure,
    precision_recall_curves,
    reliability_diagram,
    roc_curves,
)
from lesion_exp.evaluation.figures.forest_plots import differences_figure
from lesion_exp.evaluation.figures.subgroups import subgroup_figure
from lesion_exp.evaluation.subgroups import subgroups

MakeTable = Callable[..., pd.DataFrame]
KINDS = ("Benign melanocytic lesion without atypia", "Dermatofibroma", "squamous cell carcinoma in situ")
PLACES = ("face", "trunk", "upper limb", "lower limb", "back", "scalp and neck", "palms and soles", "nail unit")
LONG = [f"{kind} of the {place}" for place in PLACES for kind in KINDS]


def drawn(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def shown(texts: Iterable[Text]) -> list[Text]:
    return [text for text in texts if text.get_text() and text.get_visible()]


def overlaps(texts: Sequence[Text]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel or two."""
    boxes = {text: text.get_window_extent().padded(-2) for text in texts}
    return [
        (one.get_text(), other.get_text()) for one, other in combinations(boxes, 2) if boxes[one].overlaps(boxes[other])
    ]


@pytest.mark.parametrize("num_classes", [2, 3, 24])
def test_level_names_of_a_confusion_matrix_do_not_touch(make_table: MakeTable, num_classes: int) -> None:
    table = make_table(300, dict.fromkeys(LONG[:num_classes], 1 / num_classes))
    figure = drawn(confusion_matrix(table, "test part"))
    for axes in figure.axes[:2] if num_classes <= 3 else figure.axes[:1]:
        names = [*shown(axes.get_xticklabels()), *shown(axes.get_yticklabels())]
        assert len(names) >= 2 * num_classes
        assert overlaps(names) == []
    assert figure.get_tightbbox().x0 >= -0.01, "names are not wider than their place"


@pytest.mark.parametrize("skill", [0.5, 4.0])
@pytest.mark.parametrize("target", ["malignant", LONG[0]])
def test_the_key_of_a_decision_curve_lies_on_no_curve(make_table: MakeTable, target: str, skill: float) -> None:
    table = make_table(200, {"other": 0.3, target: 0.7}, skill=skill)
    figure = drawn(decision_curve_figure(decision_curve(table, target, draws=20)))
    (axes,), (legend,) = figure.axes, figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01


@pytest.mark.parametrize("draw", [roc_curves, precision_recall_curves])
@pytest.mark.parametrize("num_classes", [3, 24])
def test_curves_say_what_guessing_is_and_hang_out_of_no_picture(
    make_table: MakeTable, draw: Callable[..., Figure], num_classes: int
) -> None:
    figure = drawn(draw(make_table(200, dict.fromkeys(LONG[:num_classes], 1 / num_classes))))
    said = {text.get_text() for text in figure.findobj(Text)}
    if draw is precision_recall_curves or num_classes > 12:
        assert any("guessing" in text for text in said)
    if num_classes > 12:
        rows = {axes.get_subplotspec().rowspan.start: axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()}
        assert len(rows) == 5, "every row of panels says what its height is"


def test_the_key_of_reliability_shows_bars_as_they_are_though_the_first_one_is_faint(make_table: MakeTable) -> None:
    figure = reliability_diagram(make_table(150))
    (legend,) = figure.legends
    looks = {
        text.get_text(): handle.get_alpha()
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        if handle is not None
    }
    assert looks["share of right predictions"] is None
    assert looks["faint: fewer than 20 lesions"] < 1
    first = next(bar for bar in figure.axes[0].patches if bar.get_height())
    assert first.get_alpha() is not None


def test_names_of_metrics_and_of_attributes_of_subgroups_stand_on_lines_of_their_own(make_table: MakeTable) -> None:
    figure = subgroup_figure(subgroups(make_table(300, {"benign": 0.5, "malignant": 0.5}), draws=20), "test part")
    assert figure is not None
    drawn(figure)
    attribute = next(text for text in figure.axes[0].texts if "lesions" in text.get_text())
    title = figure.axes[0]._left_title
    assert title.get_window_extent().y0 > attribute.get_window_extent().y1


def test_too_few_lesions_are_said_once_a_row_and_can_be_read(make_table: MakeTable) -> None:
    """The line of no difference runs through the words: they have a background."""
    tables = [make_table(160, {"a": 0.92, "b": 0.08}, seed=4)] * 3
    pairs = [("A", "B"), ("A", "C"), ("B", "C")]
    found = compared(tables, {"A": [0], "B": [1], "C": [2]}, pairs, draws=20)
    figure = differences_figure(found, dict.fromkeys("ABC", "a job"))
    for axes in figure.axes[2:]:
        words = [text for text in axes.texts if text.get_text().startswith("too few")]
        assert len(words) == len({text.get_position()[1] for text in words}) > 0
        assert words[0].get_bbox_patch() is not None


def test_the_three_counts_of_many_classes_have_a_heading() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.choice(LONG, 900), "split": rng.choice(["train", "val", "test"], 900)})
    figure = drawn(class_distribution(table))
    left, right = figure.axes
    assert "train / val / test" in {text.get_text() for text in left.texts}
    assert all(tick.get_text().endswith("%") for tick in right.get_xticklabels())
    assert right.get_xlim()[1] == pytest.approx(
        1.2 * pd.crosstab(table["label"], table["split"], normalize="columns").to_numpy().max()
    )
