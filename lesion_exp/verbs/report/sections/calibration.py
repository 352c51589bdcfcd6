"""The section on calibration, conformal sets and operating points."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import UserError
from lesion_exp.evaluation.calibration import reliability_bins
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.evaluation.lesion_counts import lesion_counts
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.posthoc import FAMILIES, calibrator_path
from lesion_exp.evaluation.predictions import has_labels_only, probabilities, true_classes
from lesion_exp.evaluation.registry import LOWER, words_of
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import as_value, number, stacked, with_interval
from lesion_exp.verbs.report.blocks import Block, Cell, Figure, Figures, Legend, Note, Section, Table, Text, not_stored
from lesion_exp.verbs.report.charts import Dots, Drawn, Line, plot, unit_axis

_METRICS: Final = ("ece", "ece_classwise", "brier", "nll")
_RULES: Final = {
    "sensitivity_90": "sensitivity of 90%",
    "sensitivity_95": "sensitivity of 95%",
    "specificity_90": "specificity of 90%",
    "specificity_95": "specificity of 95%",
    "youden": "largest sum of both (Youden)",
}
_LARGEST_DOT: Final = 14.0


def calibration(facts: RunSummary) -> Section:
    """Returns the section on calibration."""
    table, title = facts.predictions, "Calibration"
    if table is None:
        return Section("calibration", title, [not_stored("predictions of the validation or the test part")])
    if has_labels_only(table):
        return Section("calibration", title, [not_stored("probabilities")])
    method = facts.evaluation_file("calibrated").get("calibration")
    after = _calibrated(facts, table, method)
    figures = [_reliability(table, "As predicted")]
    figures += [_reliability(after, f"After {method} scaling, fitted on validation")] if after is not None else []
    intro = Text(
        "Each dot is the images of one range of confidence; its area is proportional to their number. On the dotted "
        "line, predictions with a confidence of 0.8 are right in 80% of all cases; below it the network is "
        "overconfident."
    )
    warning = facts.evaluation_file("calibrated").get("warning")
    warned: list[Block] = [Note(str(warning))] if warning else []
    blocks: list[Block] = [intro, *warned, Figures(figures), *_table(facts), *_conformal(facts), *_points(facts)]
    return Section("calibration", title, blocks)


def _calibrated(facts: RunSummary, table: pd.DataFrame, method: Any) -> pd.DataFrame | None:
    content = facts.kept.mapping(calibrator_path(method)) if isinstance(method, str) else {}
    try:
        return read_calibrator(dict(content)).calibrate(table) if content else None
    except UserError as error:
        facts.kept.broken[calibrator_path(method)] = str(error)
        return None


def _reliability(table: pd.DataFrame, caption: str) -> Figure:
    bins = reliability_bins(probabilities(table), true_classes(table))
    filled = np.flatnonzero(bins.counts)
    radii = np.maximum(2.0, _LARGEST_DOT * np.sqrt(bins.counts[filled] / bins.counts.max()))
    xs, ys = bins.confidence[filled].tolist(), bins.accuracy[filled].tolist()
    marks: list[Drawn] = [Line([0, 1], [0, 1], None), Line(xs, ys, 0), Dots(xs, ys, radii.tolist(), 0)]
    description = f"{caption}: expected calibration error {number(bins.ece)}"
    legend = [Legend(f"expected calibration error {number(bins.ece)}", 0)]
    return Figure(
        plot(description, unit_axis("confidence"), unit_axis("share of right predictions"), marks), caption, legend
    )


def _table(facts: RunSummary) -> list[Block]:
    calibrated = facts.evaluation_file("calibrated")
    names = [name for name in _METRICS if name in facts.values]
    after = {name: as_value(calibrated.get(name)) for name in names}
    has_after = any(after.values())
    rows: list[list[Cell]] = [
        [words_of(name), with_interval(facts.values[name]), *([with_interval(after[name])] if has_after else [])]
        for name in names
    ]
    columns = [f"metric ({LOWER})", ">as predicted"]
    columns += [f">after {calibrated['calibration']} scaling"] if has_after else []
    missing: list[Block] = [] if has_after or facts.part == "val" else [not_stored("calibration fitted on validation")]
    return [Table("Calibration, with 95% intervals", columns, rows), *_by_chance(facts), *missing] if rows else missing


def _by_chance(facts: RunSummary) -> list[Block]:
    """The calibration error to expect of a calibrated network, for comparison."""
    expected = facts.values.get("ece_of_calibrated")
    if expected is None:
        return []
    return [
        Text(
            f"A calibration error is above 0 by chance alone: a perfectly calibrated network would have an expected "
            f"calibration error of {number(expected.value)} on these images. The intervals account for this, so they "
            f"reach further below the values than above them."
        )
    ]


def _conformal(facts: RunSummary) -> list[Block]:
    found = facts.evaluation_file("conformal")
    rows: list[list[Cell]] = []
    for method, words in (("lac", "smallest sets (LAC)"), ("aps", "adaptive sets (APS)")):
        coverage, size = as_value(found.get(f"{method}/coverage")), as_value(found.get(f"{method}/set_size"))
        if coverage and size:
            rows.append([words, with_interval(coverage), with_interval(size)])
    alpha = facts.kept.mapping("conformal/lac.json").get("alpha")
    nominal = f", nominal coverage {1 - alpha:.0%}" if isinstance(alpha, float) else ""
    caption = f"Conformal prediction sets, fitted on validation{nominal}"
    return [Table(caption, ["sets", ">contain the true class", ">classes in a set"], rows)] if rows else []


def _points(facts: RunSummary) -> list[Block]:
    target = MALIGNANT if any(name.startswith(f"{MALIGNANT}/") for name in facts.evaluation_file("operating")) else None
    points = [p for p in facts.kept.entries("operating_points/points.json") if p.get("target") == target]
    rows: list[list[Cell]] = []
    rests = None if facts.predictions is None else lesion_counts(facts.predictions)
    for point in points:
        at = f"{target}/{point['rule']}"
        measured = {
            name: as_value(facts.evaluation_file("operating").get(name)) for name in (f"{at}/{one}" for one in FAMILIES)
        }
        few = {name: rests.too_few(f"operating/{name}") if rests else "" for name in measured}
        words = _RULES.get(str(point["rule"]), str(point["rule"]))
        cells = (stacked(value, few[name]) for name, value in measured.items())
        rows.append([words, number(point["threshold"]), *cells])
    columns = ["threshold chosen for", ">probability", ">sensitivity", ">specificity", ">PPV", ">NPV"]
    caption = "Operating points for malignancy: thresholds chosen on validation, evaluated on this part"
    return [Table(caption, columns, rows)] if rows else []
