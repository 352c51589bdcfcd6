"""The section with the ROC and precision-recall curves of each class, and the decision curve."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from lesion_exp.evaluation.figures.style import NUMBERED_FROM, labels
from lesion_exp.evaluation.lesion_counts import lesion_counts
from lesion_exp.evaluation.predictions import has_labels_only, probabilities, true_classes
from lesion_exp.evaluation.ranking import precision_recall_points, roc_points
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import as_value, with_interval
from lesion_exp.verbs.report.blocks import Block, Figure, Figures, Legend, Section, not_stored
from lesion_exp.verbs.report.charts import Band, Drawn, Line, panel, plot, round_axis, unit_axis

_SOLID: Final = 7
"""The number of classes with distinct colours; the curves of further classes are dashed."""
_NAME_LENGTH: Final = 34


def curves(facts: RunSummary) -> Section:
    """Returns the section with the curves."""
    if facts.predictions is None:
        return Section("curves", "Curves", [not_stored("predictions of the validation or the test part")])
    if has_labels_only(facts.predictions):
        return Section("curves", "Curves", [not_stored("probabilities")])
    figures = [_ranked(facts, "auroc"), _ranked(facts, "average_precision"), *_decision(facts)]
    missing: list[Block] = [] if len(figures) > 2 else [not_stored("a decision curve")]
    return Section("curves", "Curves", [Figures(figures), *missing])


def _ranked(facts: RunSummary, family: str) -> Figure:
    """The curves of all classes in one plot, or with 13 or more classes in a panel for each."""
    assert facts.predictions is not None
    is_numbered = len(facts.classes) >= NUMBERED_FROM
    probs, true = probabilities(facts.predictions), true_classes(facts.predictions)
    rests = lesion_counts(facts.predictions)
    is_roc = family == "auroc"
    lines, legend, panels = [], [], []
    short = dict(zip(facts.classes, labels(facts.classes, _NAME_LENGTH), strict=True))
    for place, name in enumerate(facts.classes):
        positive = true == place
        if f"{family}/{name}" not in facts.values or not positive.any() or positive.all():
            continue
        xs, ys = (roc_points if is_roc else precision_recall_points)(probs[:, place], positive)
        lines.append(Line(xs.tolist(), ys.tolist(), place, dashed=place >= _SOLID))
        value = with_interval(facts.values[f"{family}/{name}"])
        text = ", ".join([value, f"n = {int(positive.sum()):,}", *filter(None, [rests.too_few(f"{family}/{name}")])])
        legend.append(Legend(f"{short[name]} {text}", place, place >= _SOLID))
        guessing = None if is_roc else float(positive.mean())
        panels.append((f"{name}: {text}", short[name], text, xs.tolist(), ys.tolist(), guessing))
    x, y = ("1 - specificity", "sensitivity") if is_roc else ("recall", "precision")
    title = "ROC curves, with AUROC" if is_roc else "Precision-recall curves, with average precision"
    if is_numbered:
        axes = f"vertical axis {y}, horizontal axis {x}, each from 0 to 1; dotted: guessing"
        return Figure(
            Markup('<div class="panels">{}</div>').format(Markup("").join(panel(*drawn) for drawn in panels)),
            f"{title} (95% interval) and the number n of images, with a panel for each class; {axes}",
            wide=True,
        )
    reference = [Line([0, 1], [0, 1], None)] if is_roc else []
    text = f"{title}: {'; '.join(entry.name for entry in legend)}"
    return Figure(plot(text, unit_axis(x), unit_axis(y), [*reference, *lines]), title, legend)


def _decision(facts: RunSummary) -> list[Figure]:
    found = facts.evaluation_file("decision_curve")
    values = [value for entry in found.get("model", []) if (value := as_value(entry)) and value.low is not None]
    xs, everyone = found.get("thresholds", []), found.get("everyone", [])
    if not values or len(values) != len(xs) or len(everyone) != len(xs):
        return []
    lows, highs = [value.low or 0.0 for value in values], [value.high or 0.0 for value in values]
    y = round_axis("net benefit", [*lows, *highs, 0.0])
    x = round_axis(f"threshold probability of {found['target']}", [0.0, *xs], least=0.0)
    clipped = [value if value >= y.low else float("nan") for value in everyone]
    marks: list[Drawn] = [
        Band(xs, lows, highs),
        Line([x.low, x.high], [0.0, 0.0], None),
        Line(xs, clipped, 1, dashed=True),
        Line(xs, [value.value for value in values], 0),
    ]
    best = max(zip(values, xs, strict=True), key=lambda pair: pair[0].value)
    text = f"Net benefit of the model, at most {best[0].value:.3f} at a threshold of {best[1]:g}"
    legend = [Legend("act on the model, with 95% band", 0), Legend("act on everyone", 1, dashed=True)]
    return [Figure(plot(text, x, y, marks), "Decision curve; acting on no one is 0", legend)]
