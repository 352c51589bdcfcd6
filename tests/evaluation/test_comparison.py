from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.comparison import BY_CLASS, OVERALL, AddedMetric, compared
from lesion_exp.evaluation.figures.forest_plots import differences_figure
from lesion_exp.evaluation.intervals import intervals, lesion_of
from lesion_exp.evaluation.lesion_counts import warnings_of_lesions
from lesion_exp.evaluation.malignant_view import malignant_view
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.paired_tests import holm, paired_draws
from lesion_exp.evaluation.pairing import with_most_patients
from lesion_exp.evaluation.predictions import classes_of, probabilities
from lesion_exp.evaluation.registry import METRICS, WATCHED, is_lower_better, shown_in

MakeTable = Callable[..., pd.DataFrame]


def worse(table: pd.DataFrame, noise: float, seed: int = 1) -> pd.DataFrame:
    """The predictions with noise on their logits: another model on the same images."""
    classes = classes_of(table)
    rng = np.random.default_rng(seed)
    logits = np.log(probabilities(table) + 1e-6) + rng.normal(0, noise, (len(table), len(classes)))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {f"p_{name}": probs[:, place].astype(np.float32) for place, name in enumerate(classes)}
    return table.assign(prediction=np.asarray(classes, dtype=object)[probs.argmax(axis=1)], **columns)


@pytest.fixture
def tables(make_table: MakeTable) -> list[pd.DataFrame]:
    first = make_table(300)
    return [first, worse(first, 2.0), worse(first, 0.3)]


def of_pair(first: pd.DataFrame, second: pd.DataFrame, **options):
    (pair,) = compared([first, second], {"A": [0], "B": [1]}, [("A", "B")], draws=400, **options).pairs
    return pair


def test_a_run_against_itself_differs_in_nothing(table: pd.DataFrame) -> None:
    pair = of_pair(table, table.copy())
    classes = [*classes_of(table), "malignant"]
    assert set(pair.differences) == {*OVERALL, *(f"{family}/{name}" for family in BY_CLASS for name in classes)}
    for difference in pair.differences.values():
        assert difference.difference == 0
        assert difference.low == pytest.approx(-difference.high, abs=1e-9)
        assert difference.test == "too few" or difference.high < 0.1
        assert (difference.p, difference.p_corrected) in {(1, 1), (None, None)}
    assert (pair.only_first, pair.only_second) == (0, 0)
    assert pair.to_change is not None


def test_values_are_the_metrics_and_the_worse_is_found(tables) -> None:
    pair = of_pair(tables[0], tables[1])
    first, second = metrics(tables[0]), metrics(tables[1])
    for name, difference in pair.differences.items():
        assert (difference.first, difference.second) == pytest.approx((first[name], second[name]))
        assert difference.difference == pytest.approx(first[name] - second[name])
        assert difference.low <= difference.high
    for name in ("accuracy", "balanced_accuracy", "auroc_macro", "brier", "recall/nv"):
        assert pair.differences[name].significant, name
    assert pair.differences["accuracy"].low > 0
    assert pair.differences["brier"].high < 0


def test_swapping_turns_the_signs_and_nothing_else(tables) -> None:
    one, two = of_pair(tables[0], tables[2]), of_pair(tables[2], tables[0])
    for name, difference in one.differences.items():
        other = two.differences[name]
        assert (other.difference, other.low, other.high) == pytest.approx(
            (-difference.difference, -difference.high, -difference.low)
        )
        assert other.p == pytest.approx(difference.p)
    assert (one.to_change, one.only_first) == (two.to_change, two.only_second)


def test_each_job_has_the_interval_of_the_report(tables) -> None:
    found = compared(tables[:2], {"A": [0], "B": [1]}, [("A", "B")], draws=200)
    expected = intervals(tables[1], ["accuracy", "auroc_macro"], draws=200)
    for name, interval in expected.items():
        value = found.groups[1].values[name]
        assert (value.low, value.high) == pytest.approx(interval)


def test_tests_are_by_lesion(tables) -> None:
    """Each image four times tells no more than once: p-values and intervals stay."""
    first, second = (table.assign(lesion_id=table["image_id"]) for table in tables[::2])
    copies = [
        pd.concat([table.assign(row_id=table["row_id"] + f"#{copy}") for copy in range(4)]).reset_index(drop=True)
        for table in (first, second)
    ]
    alone, together = of_pair(first, second), of_pair(*copies)
    for name in ("accuracy", "recall/nv", "brier", "auroc_macro", "auroc/mel"):
        one, four = alone.differences[name], together.differences[name]
        assert (four.p, four.low, four.high) == pytest.approx((one.p, one.low, one.high)), name
    assert together.to_change == alone.to_change


def test_delong_and_the_bootstrap_agree(tables) -> None:
    difference = of_pair(tables[0], tables[2], seed=3).differences["auroc/nv"]
    assert difference.test == "DeLong"
    error = (difference.high - difference.low) / 2 / 1.96
    assert difference.p == pytest.approx(2 * stats.norm.sf(abs(difference.difference) / error), rel=0.35)


def test_accuracy_is_corrected_for_the_pairs_and_all_else_for_metrics_and_pairs(tables) -> None:
    pairs = compared(tables, {"A": [0], "B": [1], "C": [2]}, list(combinations("ABC", 2)), draws=100).pairs
    accuracies = [pair.differences["accuracy"] for pair in pairs]
    expected = [min(1.0, 2 * p_value) for p_value in holm([found.p for found in accuracies])]
    assert [found.p_corrected for found in accuracies] == pytest.approx(expected)
    for pair in pairs:
        (alone,) = compared(
            [tables["ABC".index(letter)] for letter in (pair.first, pair.second)],
            {"A": [0], "B": [1]},
            [("A", "B")],
            draws=100,
        ).pairs
        for name, found in pair.differences.items():
            if name != "accuracy" and found.p is not None:
                assert found.p_corrected == pytest.approx(min(1.0, 3 * alone.differences[name].p_corrected)), name


def test_seeds_of_a_job_are_pooled(tables) -> None:
    seeds = [worse(tables[0], 0.3, seed) for seed in range(3)]
    found = compared([*seeds, tables[1]], {"A": [0, 1, 2], "B": [3]}, [("A", "B")], draws=100)
    values = [metrics(table)["accuracy"] for table in seeds]
    group, (pair,) = found.groups[0], found.pairs
    assert group.values["accuracy"].value == pytest.approx(np.mean(values))
    assert group.deviation("accuracy") == pytest.approx(np.std(values, ddof=1))
    assert found.groups[1].deviation("accuracy") is None
    difference = pair.differences["accuracy"]
    assert difference.first == pytest.approx(np.mean(values))
    assert (difference.test, pair.only_first) == ("seeds", None)


def test_of_pooled_runs_the_lesions_to_change_turn_the_verdict(tables) -> None:
    seeds = [worse(tables[0], 0.3, seed) for seed in range(3)]
    others = [worse(tables[0], noise, 9) for noise in (0.4, 0.5)]
    (pair,) = compared([*seeds, *others], {"A": [0, 1, 2], "B": [3, 4]}, [("A", "B")], draws=400).pairs
    difference = pair.differences["accuracy"]
    assert not difference.significant
    assert pair.to_change is not None
    half = (difference.high - difference.low) / 2
    _, num_lesions = lesion_of(tables[0])
    turned = abs(difference.difference) + pair.to_change / num_lesions
    assert turned - 1 / num_lesions <= half < turned


def test_intervals_of_differences_end_where_the_metric_does(tables) -> None:
    """Two seeds that disagree have a wide interval; no recall is above 1 or below 0."""
    seeds = [tables[0], tables[1]]
    found = compared([*seeds, tables[2]], {"A": [0, 1], "B": [2]}, [("A", "B")], draws=50)
    values, differences = found.groups[0].values, found.pairs[0].differences
    ends = {name: METRICS[name.split("/")[0]] for name in differences}
    assert all(ends[name].lowest <= values[name].low <= values[name].high <= ends[name].highest for name in ends)
    widths = {name: entry.highest - entry.lowest for name, entry in ends.items()}
    assert all(max(-differences[name].low, differences[name].high) <= width for name, width in widths.items())
    assert any(values[name].low == 0 or values[name].high == 1 for name in ends)
    assert values["nll"].high > 2


def test_intervals_hold_the_truth_as_often_as_they_say(make_table: MakeTable) -> None:
    """Two equally good models, whose true difference is 0, on many small test parts with two images a lesion."""
    held = rejected = 0
    for seed in range(120):
        table = make_table(160, shares={"mel": 0.4, "nv": 0.6}, seed=seed)
        first, second = worse(table, 1.0, 2 * seed + 1000), worse(table, 1.0, 2 * seed + 1001)
        differences = of_pair(first, second).differences
        accuracy = differences["accuracy"]
        held += accuracy.low <= 0 <= accuracy.high
        rejected += differences["auroc/mel"].p < 0.05
    assert held / 120 >= 0.9
    assert rejected / 120 <= 0.1


def test_draws_of_the_bootstrap_are_paired(tables) -> None:
    drawn = paired_draws([tables[0], tables[0], tables[2]], ["accuracy"], draws=200)
    np.testing.assert_array_equal(drawn.draws["accuracy"][0], drawn.draws["accuracy"][1])
    differences = drawn.draws["accuracy"][0] - drawn.draws["accuracy"][2]
    assert differences.std() < 0.8 * np.hypot(*drawn.draws["accuracy"][[0, 2]].std(axis=1))
    with pytest.raises(ConfigError, match="at least 1 bootstrap draw"):
        paired_draws(tables, ["accuracy"], draws=0)


def test_a_class_without_images_is_left_out(make_table: MakeTable) -> None:
    table = make_table(300, {"df": 0.2, "mel": 0.4, "nv": 0.4}).query("label != 'df'").reset_index(drop=True)
    pair = of_pair(table, worse(table, 1.0))
    assert "recall/df" not in pair.differences
    assert "recall/mel" in pair.differences
    assert pair.differences["auroc_macro"].test == "DeLong"


@pytest.mark.parametrize("num_jobs", [2, 3, 5])
def test_the_figure_shows_every_pair(tables, num_jobs: int) -> None:
    letters = "ABCDE"[:num_jobs]
    models = [worse(tables[0], 0.2 * place) for place in range(num_jobs)]
    pairs = list(combinations(letters, 2))
    found = compared(models, {letter: [place] for place, letter in enumerate(letters)}, pairs, draws=50)
    figure = differences_figure(found, dict.fromkeys(letters, "a job"), "differences")
    figure.canvas.draw()
    labels = {f"{one} - {two}" for one, two in pairs}
    texts = {text.get_text() for text in (*figure.legends[0].get_texts(), *figure.axes[0].get_yticklabels())}
    heading = figure.get_suptitle()
    assert labels <= texts or (num_jobs == 2 and heading.startswith("A - B"))
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    higher = [name for name in shown_in("compare") if not is_lower_better(name)]
    names = higher if num_jobs < 4 else [WATCHED]
    differences = [pair.differences[name] for pair in found.pairs for name in names]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([each.difference for each in differences])
    ends = [
        tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() != "o" and line.get_zorder() == 2
    ]
    assert np.ravel(ends) == pytest.approx([end for each in differences for end in (each.low, each.high)])
    filled = [line.get_markerfacecolor() != "white" for line in points]
    assert filled == [each.significant for each in differences]
    assert len(points) == len(names) * len(pairs)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low == pytest.approx(-high)


def test_a_metric_that_is_only_a_function_is_compared_like_one_of_the_registry(tables) -> None:
    """The Brier score once more, less 5: other values, and the same differences, intervals and tests."""

    def brier(probs: np.ndarray, true: np.ndarray) -> float:
        return float(np.square(probs - np.eye(probs.shape[1])[true]).sum(axis=1).mean()) - 5

    models = [*tables[::2], worse(tables[0], 0.3, seed=2)]
    jobs, pairs = {"A": [0], "B": [1], "C": [1, 2]}, [("A", "B"), ("A", "C")]
    found = compared(models, jobs, pairs, draws=60, added={"own": AddedMetric(brier, False)})
    assert found.is_lower_better("own")
    assert found.overall() == [*OVERALL, "own"]
    for pair in found.pairs:
        own, known = pair.differences["own"], pair.differences["brier"]
        assert (own.first, own.second) == pytest.approx((known.first - 5, known.second - 5))
        assert (own.low, own.high) == pytest.approx((known.low, known.high), abs=1e-6)
        assert (own.p, own.test) == (pytest.approx(known.p), known.test)
        assert own.p_corrected == pytest.approx(known.p_corrected)
    values = [group.values for group in found.groups]
    assert [group["own"].low for group in values] == pytest.approx([group["brier"].low - 5 for group in values])


def test_a_metric_without_a_direction_is_left_out_of_the_figure(tables) -> None:
    added = {name: AddedMetric(lambda probs, true: probs[:, 0].mean(), better) for name, better in
             (("up", True), ("down", False), ("open", None))}  # fmt: skip
    found = compared(tables, {"A": [0], "B": [1]}, [("A", "B")], draws=20, added=added)
    higher, lower = differences_figure(found, dict.fromkeys("AB", "a job")).axes[:2]
    drawn = [[text.get_text() for text in axes.get_yticklabels()] for axes in (higher, lower)]
    assert [("up" in names, "down" in names, "open" in names) for names in drawn] == [
        (True, False, False), (False, True, False)
    ]  # fmt: skip


def test_the_malignant_view_is_tested_like_a_class(tables) -> None:
    """As two classes it would be compared with the same result."""
    views = [malignant_view(table) for table in tables[::2]]
    assert views[0] is not None
    assert views[1] is not None
    found, expected = of_pair(*tables[::2]).differences, of_pair(*views).differences
    for family in BY_CLASS:
        one, two = found[f"{family}/malignant"], expected[f"{family}/malignant"]
        assert (one.difference, one.low, one.p) == pytest.approx((two.difference, two.low, two.p)), family


def test_what_rests_on_few_lesions_is_shown_and_not_tested(make_table: MakeTable) -> None:
    """Three images of df, of which one model reads all and the other none: no verdict."""
    table = make_table(400, {"df": 0.02, "mel": 0.3, "nv": 0.68})
    is_rare = (table["label"] == "df").to_numpy()
    assert 3 <= table.loc[is_rare, "lesion_id"].nunique() < 20
    other = table.assign(prediction=table["prediction"].where(~is_rare, "nv"))
    better = table.assign(prediction=table["prediction"].where(~is_rare, "df"))
    pair = of_pair(better, other)
    for family in BY_CLASS:
        difference = pair.differences[f"{family}/df"]
        assert (difference.test, difference.p, difference.significant) == ("too few", None, False), family
        assert difference.lesions == table.loc[is_rare, "lesion_id"].nunique()
        assert difference.low < difference.high
    assert pair.differences["recall/df"].low > -1
    assert pair.differences["recall/nv"].test == "McNemar"
    assert pair.differences["auroc/nv"].test == "DeLong"
    assert pair.differences["auroc_macro"].test == "permuted", (
        "DeLong's test cannot be trusted with three lesions of df"
    )


def test_fewer_than_twenty_lesions_are_not_compared_at_all(make_table: MakeTable) -> None:
    """Nineteen lesions, of which one model reads all and the other none; nor are seeds of them."""
    table = make_table(38, {"mel": 0.5, "nv": 0.5})
    assert table["lesion_id"].nunique() == 19
    turned = table.assign(label=table["prediction"].map({"mel": "nv", "nv": "mel"}))
    first, second = turned.assign(prediction=turned["label"]), turned
    pairs = [
        of_pair(first, second),
        *compared([first, first, second], {"A": [0, 1], "B": [2]}, [("A", "B")], draws=20).pairs,
    ]
    for pair in pairs:
        assert {found.test for found in pair.differences.values()} == {"too few"}
        assert not any(found.significant for found in pair.differences.values())
        assert pair.to_change is None


def test_the_images_of_a_patient_are_taken_together_where_patients_are_the_unit(tables) -> None:
    patients = [f"pat{place // 6}" for place in range(300)]
    pair = [table.assign(lesion_id=None, patient_id=patients) for table in tables[:2]]
    groups, pairs = {"A": [0], "B": [1]}, [("A", "B")]
    found = compared(pair, groups, pairs, draws=100, unit="patient")
    as_lesions = compared([table.assign(lesion_id=patients) for table in pair], groups, pairs, draws=100)
    assert (found.num_lesions, found.counted(found.num_lesions), found.counted(1)) == (50, "50 patients", "1 patient")
    assert found.pairs == as_lesions.pairs
    assert found.pairs != compared(pair, groups, pairs, draws=100).pairs
    with pytest.raises(ConfigError, match="without patient_id"):
        compared([table.assign(patient_id=None) for table in pair], groups, pairs, draws=100, unit="patient")


@pytest.mark.parametrize("known", [0, 1])
def test_predictions_that_name_no_patients_have_those_of_the_others(tables, known) -> None:
    patients = [f"pat{place // 6}" for place in range(300)]
    pair = [table.assign(lesion_id=None, patient_id=patients) for table in tables[:2]]
    imported = [table if place == known else table.assign(patient_id=None) for place, table in enumerate(pair)]
    groups, pairs = {"A": [0], "B": [1]}, [("A", "B")]
    found = compared(imported, groups, pairs, draws=100, unit="patient")
    assert found == compared(pair, groups, pairs, draws=100, unit="patient")
    assert warnings_of_lesions(with_most_patients(imported), "lesion") == warnings_of_lesions(pair[0], "lesion") != []


def test_a_difference_of_areas_has_a_bootstrap_interval_also_where_a_draw_lacks_the_class(tables) -> None:
    of_class = tables[0]["label"] == "df"
    kept = ~of_class | (of_class.cumsum() <= 3)
    rare = [table[kept].reset_index(drop=True) for table in tables[:2]]
    drawn = paired_draws(rare, ["auroc/df"], draws=200)
    assert np.isnan(drawn.draws["auroc/df"]).any()
    assert drawn.limits("auroc/df", (0, 1)) is None
    assert drawn.limits("auroc/df", (0, 0)) is not None, "the difference is 0 in all draws"


def test_many_pairs_of_too_few_lesions_are_not_drawn_like_tested_ones(tables) -> None:
    letters = "ABCD"
    models = [worse(tables[0], 0.2 * place).head(12) for place in range(4)]
    pairs = list(combinations(letters, 2))
    found = compared(models, {letter: [place] for place, letter in enumerate(letters)}, pairs, draws=20)
    axes = differences_figure(found, dict.fromkeys(letters, "a job")).axes[0]
    assert [text.get_text() for text in axes.texts] == [f"too few ({found.counted(found.num_lesions)})"] * len(pairs)
    assert not [line for line in axes.lines if line.get_marker() == "o"]
