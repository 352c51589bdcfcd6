from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.figures.subgroups import subgroup_figure
from lesion_exp.evaluation.intervals import intervals, units_of
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.evaluation.subgroups import age_band, attributes, largest_gaps, subgroups

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


def test_every_shown_figure_is_the_metric_of_its_images(make_table: MakeTable) -> None:
    table = make_table(1200, skill=1.0)
    found = subgroups(table, draws=50)
    assert {cell.attribute for cell in found.cells} == {"age", "sex"}  # one site and one source are no subgroups
    for cell in found.cells:
        values = table["age"].map(age_band) if cell.attribute == "age" else table["sex"]
        chosen = table[values == cell.name]
        assert (cell.images, cell.lesions) == (len(chosen), chosen["lesion_id"].nunique())
        expected = metrics(chosen)
        for name, estimate in cell.estimates.items():
            if estimate is not None:
                assert estimate.value == pytest.approx(expected[name]), (cell.name, name)
                assert estimate.low <= estimate.value <= estimate.high
    assert all(cell.estimates["accuracy"] is not None for cell in found.cells)


def test_the_interval_of_a_whole_is_that_of_the_table(make_table: MakeTable) -> None:
    table = make_table(400)
    low, high = intervals(table, ["accuracy"], draws=100)["accuracy"]
    overall = subgroups(table, draws=100).overall["accuracy"]
    assert (overall.low, overall.high) == (low, high)


def planted(rows_of: RowsOf, males: int) -> pd.DataFrame:
    """200 women, all right; so many men, half of them wrong; one image a lesion, all nevi or melanomas by turns."""
    count = 200 + males
    right = np.array([True] * 200 + [i % 4 < 2 for i in range(males)])
    labels = np.array(["mel", "nv"])[np.arange(count) % 2]
    p_mel = np.where((labels == "mel") == right, 0.9, 0.1)
    probs = np.stack([np.zeros(count), p_mel, 1 - p_mel], axis=1)
    rows = rows_of(list(labels), [f"l{i}" for i in range(count)])
    sex = ["female"] * 200 + ["male"] * males
    return predictions_table(rows.assign(sex=sex, age=50.0), probs, ["bkl", "mel", "nv"])


def test_a_planted_gap_is_found_with_its_size(rows_of: RowsOf) -> None:
    found = subgroups(planted(rows_of, 100), draws=400)
    gap = next(gap for gap in found.gaps if gap.metric == "balanced_accuracy")
    assert (gap.classes, gap.pairs) == (("mel", "nv"), 1)
    assert (gap.attribute, gap.highest, gap.lowest) == ("sex", "female", "male")
    assert gap.difference.value == pytest.approx(0.5)
    assert 0.38 < gap.difference.low < 0.43  # binomial: 0.5 +- 1.96 * sqrt(0.25 / 100)
    assert 0.57 < gap.difference.high < 0.62


def test_subgroups_that_are_equal_have_a_gap_of_nothing_between_two_of_them(rows_of: RowsOf) -> None:
    table = planted(rows_of, 0).assign(sex=["female"] * 100 + ["male"] * 100)
    for gap in subgroups(table, draws=20).gaps:
        assert {gap.highest, gap.lowest} == {"female", "male"}
        assert gap.difference.value == 0
        assert gap.difference.low < 0 < gap.difference.high


def test_subgroups_without_a_class_in_common_are_not_compared(rows_of: RowsOf) -> None:
    table = planted(rows_of, 100).assign(sex=["female", "male"] * 150)  # all melanomas are women's, all nevi men's
    assert subgroups(table, draws=20).gaps == []


def test_a_class_that_one_of_two_subgroups_hardly_has_makes_no_gap(rows_of: RowsOf) -> None:
    """Every nevus is right and every melanoma wrong; 10 women and 100 men have a melanoma."""
    labels = ["nv"] * 200 + ["mel"] * 110
    rows = rows_of(labels, [f"l{i}" for i in range(310)])
    sex = ["female", "male"] * 100 + ["female"] * 10 + ["male"] * 100
    probs = np.tile([0.05, 0.05, 0.9], (310, 1))
    found = subgroups(predictions_table(rows.assign(sex=sex, age=50.0), probs, ["bkl", "mel", "nv"]), draws=20)
    by_sex = {cell.name: cell.estimates["accuracy"] for cell in found.cells}
    assert by_sex["female"] is not None
    assert by_sex["male"] is not None
    assert by_sex["female"].low > by_sex["male"].high  # the mix alone
    gaps = {gap.metric: gap for gap in found.gaps}
    assert set(gaps) == {"balanced_accuracy", "specificity/malignant"}
    assert gaps["balanced_accuracy"].classes == ("nv",)
    assert gaps["balanced_accuracy"].difference.value == 0


def test_the_interval_of_a_gap_allows_for_all_pairs_of_subgroups(rows_of: RowsOf) -> None:
    table = planted(rows_of, 100)
    one = next(gap for gap in subgroups(table, draws=20).gaps if gap.metric == "balanced_accuracy")
    sites = [*(f"part {i // 2 % 4}" for i in range(200)), *["back"] * 100]
    several = [gap for gap in subgroups(table.assign(site=sites), draws=20).gaps if gap.metric == "balanced_accuracy"]
    assert {gap.attribute: gap.pairs for gap in several} == {"sex": 11, "site": 11}  # 1 of sex, 10 of five sites
    same = next(gap for gap in several if gap.attribute == "sex")
    assert same.difference.value == one.difference.value
    assert same.difference.low < one.difference.low


def test_the_largest_of_many_gaps_without_any_difference_seldom_excludes_0(rows_of: RowsOf) -> None:
    """`scripts/false_gaps.py` counts more of them."""
    rng, wrong, tests = np.random.default_rng(0), 0, 40
    for _ in range(tests):
        labels = np.array(["mel", "nv"])[rng.integers(0, 2, 600)]
        p_mel = np.where((labels == "mel") == (rng.random(600) < 0.8), 0.9, 0.1)
        rows = rows_of(list(labels), [f"l{i}" for i in range(600)])
        rows = rows.assign(age=rng.choice([20.0, 35.0, 50.0, 65.0, 80.0], 600), sex="unknown")
        table = predictions_table(rows, np.stack([np.zeros(600), p_mel, 1 - p_mel], axis=1), ["bkl", "mel", "nv"])
        masks = {
            ("age", name): (attributes(table)["age"] == name).to_numpy() for name in set(table["age"].map(age_band))
        }
        gaps = largest_gaps(table, *units_of(table), masks)
        wrong += any(gap.difference.low > 0 for gap in gaps if gap.metric == "balanced_accuracy")
    assert wrong / tests < 0.05 + 2 * (0.05 * 0.95 / tests) ** 0.5


def test_too_few_lesions_show_no_figure(rows_of: RowsOf) -> None:
    found = subgroups(planted(rows_of, 19), draws=20)
    male = next(cell for cell in found.cells if cell.name == "male")
    assert male.lesions == 19
    assert set(male.estimates.values()) == {None}
    assert found.gaps == []
    plain = json.loads(json.dumps(found.to_dict()))
    assert {cell["group"]: cell["metrics"]["accuracy"] for cell in plain["cells"]}["male"] == "too few"
    figure = subgroup_figure(found)
    assert figure is not None
    names = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert names == ["female  (200)"]
    assert figure.get_supxlabel() == "left out, with fewer than 20 lesions: sex male (19)"


def test_a_figure_needs_enough_lesions_of_the_kind_it_rests_on(rows_of: RowsOf) -> None:
    """30 men, of whom 15 have a melanoma: their accuracy is shown, their sensitivity is not."""
    found = subgroups(planted(rows_of, 30), draws=20)
    male = next(cell for cell in found.cells if cell.name == "male")
    assert {name for name, estimate in male.estimates.items() if estimate} == {"accuracy", "balanced_accuracy"}
    figure = subgroup_figure(found)
    assert figure is not None
    titled = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert len([line for line in titled["sensitivity, malignant"].lines if line.get_marker() == "o"]) == 1
    assert "sensitivity, malignant in 1 of 2 subgroups" in figure.get_supxlabel().replace("\n", " ")


def test_images_of_a_lesion_are_one_lesion(rows_of: RowsOf) -> None:
    table = planted(rows_of, 40)
    table = table.assign(lesion_id=[*table["lesion_id"][:200], *(f"m{i // 4}" for i in range(40))])
    male = next(cell for cell in subgroups(table, draws=20).cells if cell.name == "male")
    assert (male.images, male.lesions) == (40, 10)
    assert male.estimates["accuracy"] is None


@pytest.mark.parametrize(
    ("age", "band"),
    [(0.0, "under 30"), (29.9, "under 30"), (30.0, "30-44"), (59.0, "45-59"), (60.0, "60-74"), (75.0, "75 and over"),
     (85.0, "75 and over"), (float("nan"), "unknown"), (None, "unknown")],
)  # fmt: skip
def test_age_bands(age: float | None, band: str) -> None:
    assert age_band(age) == band


def test_attributes_that_nobody_noted_are_left_out(table: pd.DataFrame) -> None:
    noted = table.assign(age=np.nan, sex="unknown", site=["back", "face"] * 250, skin_tone=[1.0, np.nan] * 250)
    assert list(attributes(noted)) == ["site"]  # one known tone is no comparison
    tones = attributes(table.assign(skin_tone=[1.0, 2.0, np.nan, 5.0] * 125))["skin_tone"]
    assert set(tones) == {"1", "2", "5", "unknown"}


def test_every_point_of_the_figure_is_an_estimate_of_its_subgroup(make_table: MakeTable) -> None:
    found = subgroups(make_table(1200, skill=1.0), draws=50)
    figure = subgroup_figure(found)
    assert figure is not None
    points = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    shown = ["balanced_accuracy", "recall/malignant", "specificity/malignant", "auroc/malignant"]
    expected = [cell.estimates[name].value for cell in found.cells for name in shown if cell.estimates.get(name)]
    assert sorted(line.get_xdata()[0] for line in points) == pytest.approx(sorted(expected))
    intervals = [
        tuple(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_solid_capstyle() == "butt"
    ]
    ends = [e for cell in found.cells for name in shown if (e := cell.estimates.get(name))]
    assert np.ravel(sorted(intervals)) == pytest.approx(np.ravel(sorted((e.low, e.high) for e in ends)))


def test_a_table_without_subgroups_has_no_figure(rows_of: RowsOf) -> None:
    table = planted(rows_of, 0)
    found = subgroups(table, draws=20)
    assert found.cells == []
    assert subgroup_figure(found) is None


def test_a_balanced_accuracy_over_fewer_classes_is_marked_and_says_which(rows_of: RowsOf) -> None:
    """Men have no melanoma: their balanced accuracy is that of nevi alone, right of the line of both classes."""
    rng = np.random.default_rng(0)
    labels = np.array(["mel", "nv"])[np.where(np.arange(200) < 100, np.arange(200) % 2, 1)]
    right = np.where(labels == "nv", True, rng.random(200) < 0.3)
    p_mel = np.where((labels == "mel") == right, 0.9, 0.1)
    rows = rows_of(list(labels), [f"l{i}" for i in range(200)]).assign(sex=["female"] * 100 + ["male"] * 100, age=50.0)
    found = subgroups(predictions_table(rows, np.stack([p_mel, 1 - p_mel], axis=1), ["mel", "nv"]), draws=20)
    assert found.classes == ("mel", "nv")
    assert {cell.name: cell.classes for cell in found.cells} == {"female": ("mel", "nv"), "male": ("nv",)}
    assert [cell["classes"] for cell in found.to_dict()["cells"]] == [["mel", "nv"], ["nv"]]
    figure = subgroup_figure(found)
    assert figure is not None
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True]
    note = figure.get_supxlabel().replace("\n", " ")
    assert "fewer than the 2 classes of the dotted line" in note
    assert note.endswith("sex male without mel")
