"""What is drawn, measured on the figure, is the number that stands beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lesion_exp.evaluation.classification_report import confusion_counts
from lesion_exp.evaluation.decision_curve import decision_curve
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import (
    decision_curve_figure,
    precision_recall_curves,
    reliability_before_and_after,
    reliability_diagram,
    roc_curves,
)
from lesion_exp.evaluation.limits import LEAST_LESIONS, proportion_limits
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.posthoc import fit_on_validation
from lesion_exp.evaluation.predictions import classes_of, probabilities

MakeTable = Callable[..., pd.DataFrame]


def areas(figure: Figure) -> dict[str, float]:
    """The area under each curve, by the class that the legend names."""
    legend = figure.axes[1].get_legend()
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert all(line.get_drawstyle() == "default" for line in curves)
    names = [text.get_text().split()[0] for text in legend.get_texts()]
    assert len(names) == len(curves)
    return {
        name: float(np.trapezoid(line.get_ydata(), line.get_xdata())) for name, line in zip(names, curves, strict=True)
    }


@pytest.mark.parametrize("skill", [0.2, 2.0])
@pytest.mark.parametrize("decimals", [None, 0], ids=["no ties", "ties"])
def test_the_area_under_each_curve_is_printed_beside_it(
    make_table: MakeTable, skill: float, decimals: int | None
) -> None:
    """Rare classes have few steps: those of a curve that steps the wrong way enclose a third of the area."""
    table = make_table(300, skill=skill, decimals=decimals)
    values = metrics(table)
    for draw, family in ((roc_curves, "auroc"), (precision_recall_curves, "average_precision")):
        found = areas(draw(table))
        assert set(found) == set(classes_of(table))
        for name, area in found.items():
            assert area == pytest.approx(values[f"{family}/{name}"], abs=1e-6), (family, name)


@pytest.mark.parametrize("number", [13, 25])
def test_many_classes_have_a_panel_each_with_its_own_area(make_table: MakeTable, number: int) -> None:
    table = make_table(900, {f"class{place:02d}": 1 / number for place in range(number)}, skill=1.5)
    values = metrics(table)
    for draw, family in ((roc_curves, "auroc"), (precision_recall_curves, "average_precision")):
        panels = [axes for axes in draw(table).axes if axes.lines]
        assert len(panels) == number
        for axes in panels:
            name, printed = axes.get_title(loc="left").split("\n")
            area = np.trapezoid(axes.lines[0].get_ydata(), axes.lines[0].get_xdata())
            assert area == pytest.approx(values[f"{family}/{name}"], abs=1e-6)
            assert printed == f"{values[f'{family}/{name}']:.3f} (n = {(table['label'] == name).sum()})"
            assert axes.get_aspect() == 1


def test_the_gaps_of_the_reliability_diagram_add_up_to_its_error(make_table: MakeTable) -> None:
    table = make_table(400, skill=1.0)
    upper, lower = reliability_diagram(table).axes[:2]
    counts = np.array([bar.get_height() for bar in lower.patches])
    shares, gaps = upper.containers
    assert counts.sum() == len(table)
    heights = np.array([bar.get_height() for bar in gaps])
    assert (np.abs(heights) * counts).sum() / counts.sum() == pytest.approx(metrics(table)["ece"], abs=1e-6)
    assert f"{metrics(table)['ece']:.3f}" in upper.get_title(loc="left")
    right = (table["prediction"] == table["label"]).to_numpy()
    assert (np.array([bar.get_height() for bar in shares]) * counts).sum() == pytest.approx(right.sum())


def test_both_reliability_diagrams_show_their_own_error(make_table: MakeTable) -> None:
    before, after = make_table(400, skill=1.0), make_table(400, skill=2.5, seed=1)
    figure = reliability_before_and_after(before, after, "temperature")
    for column, table in enumerate((before, after)):
        upper, lower = figure.axes[column], figure.axes[2 + column]
        counts = np.array([bar.get_height() for bar in lower.patches])
        heights = np.array([bar.get_height() for bar in upper.containers[1]])
        error = metrics(table)["ece"]
        assert (np.abs(heights) * counts).sum() / counts.sum() == pytest.approx(error, abs=1e-6)
        assert f"ECE {error:.3f}" in upper.get_title(loc="left")


def test_each_bin_of_the_reliability_diagram_shows_how_sure_it_is(make_table: MakeTable) -> None:
    """Its interval is that of its own lesions, its number of images stands below, and few lesions make it faint."""
    table = make_table(150, skill=1.0)
    upper, lower = reliability_diagram(table).axes[:2]
    shares, _ = upper.containers
    (intervals,) = [found for found in upper.collections if isinstance(found, LineCollection)]
    place = np.clip(np.ceil(probabilities(table).max(axis=1) * 15).astype(int) - 1, 0, 14)
    right = (table["prediction"] == table["label"]).to_numpy()
    drawn = {round(float(line[0, 0]) * 15 - 0.5): line[:, 1] for line in intervals.get_segments()}
    assert set(drawn) == set(place)
    printed = [text.get_text() for text in lower.texts]
    seen = set()
    for number in range(15):
        mine = place == number
        assert printed[number] == (str(mine.sum()) if mine.any() else "")
        if mine.any():
            groups = pd.DataFrame({"lesion": table["lesion_id"], "right": right})[mine].groupby("lesion")["right"]
            found = proportion_limits(groups.sum().to_numpy(float), groups.count().to_numpy(float))
            assert drawn[number] == pytest.approx([found.low, found.high])
            faint = len(groups) < LEAST_LESIONS
            assert (shares[number].get_alpha() is not None) == faint
            seen.add(faint)
    assert seen == {True, False}
    assert any(f"{metrics(table)['ece_of_calibrated']:.3f}" in text.get_text() for text in upper.texts)


def test_the_bins_of_a_reliability_diagram_have_intervals_over_patients_where_the_evaluation_has(
    make_table: MakeTable,
) -> None:
    patients = [f"pat{place // 6}" for place in range(300)]
    table = make_table(300, skill=1.0).assign(lesion_id=None, patient_id=patients)

    def drawn(figure: Figure) -> list[np.ndarray]:
        return [
            segment
            for axes in figure.axes
            for found in axes.collections
            if isinstance(found, LineCollection)
            for segment in found.get_segments()
        ]

    over_patients, same = reliability_diagram(table, unit="patient"), table.assign(lesion_id=patients)
    np.testing.assert_allclose(drawn(over_patients), drawn(reliability_diagram(same)))
    assert not np.allclose(drawn(over_patients), drawn(reliability_diagram(table)))
    assert "faint: fewer than 20 patients" in [text.get_text() for text in over_patients.legends[0].get_texts()]
    options = EvaluationOptions(20, unit="patient", calibration="temperature")
    found = evaluate_table(table, fit_on_validation(make_table(300, seed=1)), options)
    stored = dict(found.figures("mine"))["calibration.png"]
    wanted = reliability_before_and_after(same, found.calibrated.assign(lesion_id=patients), "temperature")
    np.testing.assert_allclose(drawn(stored), drawn(wanted))


def test_the_decision_curve_is_the_net_benefit_of_acting(make_table: MakeTable) -> None:
    table = make_table(300, {"benign": 0.7, "malignant": 0.3}, skill=1.0)
    curve = decision_curve(table, "malignant", draws=20)
    axes = decision_curve_figure(curve).axes[0]
    model, everyone = axes.lines[:2]
    positive, scores = (table["label"] == "malignant").to_numpy(), probabilities(table)[:, 1]
    for line, acts in ((model, lambda pt: scores >= pt), (everyone, lambda pt: np.ones(len(table), bool))):
        for pt, drawn in zip(line.get_xdata(), line.get_ydata(), strict=True):
            benefit = (acts(pt) & positive).sum() - (acts(pt) & ~positive).sum() * pt / (1 - pt)
            assert drawn == pytest.approx(benefit / len(table))
    (band,) = axes.collections
    ends = band.get_paths()[0].vertices
    for x, estimate in zip(curve.thresholds, curve.model, strict=True):
        drawn = ends[np.isclose(ends[:, 0], x), 1]
        assert (drawn.min(), drawn.max()) == pytest.approx((estimate.low, estimate.high))


def test_the_confusion_matrix_shows_its_counts(make_table: MakeTable) -> None:
    table = make_table(300, skill=1.0)
    counts = confusion_counts(table)
    for axes in confusion_matrix(table).axes[:2]:
        texts = [text.get_text() for text in axes.texts if text.get_text()]
        if len(texts) >= counts.size and all(text.replace(",", "").isdigit() for text in texts[: counts.size]):
            assert [int(text.replace(",", "")) for text in texts[: counts.size]] == counts.ravel().tolist()
            return
    pytest.fail("no panel of the confusion matrix shows counts")


def test_the_numbered_confusion_matrix_shows_its_counts_and_its_recall(make_table: MakeTable) -> None:
    table = make_table(900, {f"class{place:02d}": 1 / 25 for place in range(25)}, skill=1.5)
    counts = confusion_counts(table)
    axes = confusion_matrix(table).axes[0]
    shown, recall = np.zeros_like(counts), {}
    for text in axes.texts:
        column, row = text.get_position()
        if column < 24.5:
            shown[int(row), int(column)] = int(text.get_text())
        else:
            recall[row] = text.get_text()
    assert np.array_equal(shown, counts)
    assert [recall[row] for row in range(25)] == [f"{counts[row, row] / counts[row].sum():.0%}" for row in range(25)]
