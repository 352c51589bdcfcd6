"""The report of an evaluation, as text and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lesion_exp.choices import POOLED
from lesion_exp.evaluation.class_mapping import mapping_of
from lesion_exp.evaluation.classification_report import classification_report
from lesion_exp.evaluation.comparison import SIGNIFICANT
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.isic import note_on_unk, titles
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.predictions import classes_of, unknown_counts
from lesion_exp.evaluation.registry import WATCHED, short_of, shown_in
from lesion_exp.evaluation.subgroups import Gap
from lesion_exp.evaluation.unknown import AUROC, FPR
from lesion_exp.evaluation.unknown import SECTION as UNKNOWN
from lesion_exp.tracking.artifacts import STACKING
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation, against_as_plain

_COLUMNS: Final = 80
_OUT_OF_FOLD: Final = (
    "No image is predicted by a stacked model that was fitted on an image of its patient; labels of the patient's "
    "other lesions are not read."
)
_MOST_IMPORTANT: Final = 8
"""Number of features whose importance is shown."""
_ISIC_TITLE: Final = 54
"""The width of a title that leaves room for a value with its interval; longer titles are wrapped."""
_OF_CALIBRATION = {name: short_of(name) for name in ("ece", "brier", "nll")}


def as_text(evaluation: RunEvaluation) -> str:
    """Returns the evaluation as text of about 80 columns."""
    result = evaluation.result
    table, unit = result.table, result.options.unit
    report, _ = classification_report(table, result.intervals, unit=unit, added=result.added)
    what = evaluation.run_name
    if evaluation.members and evaluation.options["ensemble"] != POOLED:
        runs = f"{len(evaluation.members)} run{'s' * (len(evaluation.members) > 1)}"
        what = f"{runs} as one: {evaluation.options['ensemble']}"
    lines = [f"{what}: {evaluation.title}", f"test-time augmentation: {evaluation.options['tta']}", ""]
    if evaluation.leaky:
        lines.insert(0, "LEAKY: evaluated images are also in the training data")
    for block in (_stacked, _note, _unknown, _isic, _calibrated, _conformal, _operating, _gaps):
        text = list(block(evaluation))
        if text:
            report += "\n" + "\n".join(text) + "\n"
    for warning in result.warnings:
        report += f"\n{textwrap.fill('warning: ' + warning, _COLUMNS)}\n"
    return "\n".join(lines) + report


def as_json(evaluation: RunEvaluation) -> dict[str, Any]:
    """Returns the evaluation as plain values.

    `metrics` has each metric with its value, `low` and `high`, and `too_few` if it rests on too few lesions.
    """
    result = evaluation.result
    values: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in result.metrics.items()}
    values |= {name: found._asdict() for name, found in result.estimates.items()}
    for name, text in result.too_few().items():
        values[name]["too_few"] = text
    return {
        "run_id": evaluation.run_id,
        "judged": evaluation.name,
        "images": len(result.table),
        "unknown_images": unknown_counts(result.whole),
        "class_mapping": mapping_of(result.whole),
        "members": list(evaluation.members),
        "evaluation": dict(evaluation.options),
        "leaky": evaluation.leaky,
        "warnings": result.warnings,
        "classes": list(classes_of(result.table)),
        "metrics": values,
        "against": against_as_plain(evaluation.against),
        "importance": [dict(one) for one in evaluation.importance],
        "notes": list(evaluation.notes),
        "subgroups": result.subgroups.to_dict(),
    }


def _stacked(evaluation: RunEvaluation) -> Iterator[str]:
    if not evaluation.against:
        return
    yield from textwrap.wrap(_OUT_OF_FOLD, _COLUMNS)
    yield f"stacked ({evaluation.options['stack']}), less (95% interval; * p < {SIGNIFICANT} after correction):"
    for other, found in evaluation.against.items():
        yield f"  {other}:"
        for name in (name for name in shown_in("headline") if name in found):
            less = found[name]
            star = "*" if less.significant else ""
            yield f"    {short_of(name):<18} {less.difference:+z.3f}{star} ({less.low:+z.3f} to {less.high:+z.3f})"
    yield "increase of the log loss of held-out images if a feature is permuted:"
    for one in evaluation.importance[:_MOST_IMPORTANT]:
        yield f"  {one['source']:<42} {one['increase']:+z.4f} (deviation over folds {one['deviation']:.4f})"
    if len(evaluation.importance) > _MOST_IMPORTANT:
        yield f"  and {len(evaluation.importance) - _MOST_IMPORTANT} further ones, in {STACKING} of the run"
    for note in evaluation.notes:
        yield from textwrap.wrap(f"note: {note}", _COLUMNS)


def _note(evaluation: RunEvaluation) -> Iterator[str]:
    if evaluation.result.note:
        yield from textwrap.wrap(f"{evaluation.result.note}.", _COLUMNS)


def _unknown(evaluation: RunEvaluation) -> Iterator[str]:
    result = evaluation.result
    if not result.unknown:
        return
    yield "detection of these images by scores:"
    for name in result.unknown:
        if (score := name.removeprefix(f"{UNKNOWN}/{AUROC}/")) != name:
            fpr, auroc = result.estimates[f"{UNKNOWN}/{FPR}/{score}"], result.estimates[name]
            yield f"  {score.replace('_', ' '):<16} AUROC {_interval(auroc)}, FPR at 95% TPR {_interval(fpr)}"


def _isic(evaluation: RunEvaluation) -> Iterator[str]:
    names, found = titles(classes_of(evaluation.result.table)), evaluation.result.estimates
    few = evaluation.result.too_few()
    for name, title in names.items():
        if name in found:
            *lines, last = textwrap.wrap(title, _ISIC_TITLE, subsequent_indent="  ")
            yield from (*lines, f"{last:<{_ISIC_TITLE}}  {_interval(found[name], few.get(name))}")
    yield from textwrap.wrap(note_on_unk(classes_of(evaluation.result.table)), _COLUMNS)


def _calibrated(evaluation: RunEvaluation) -> Iterator[str]:
    if evaluation.result.calibrated is None:
        return
    found = evaluation.result.estimates
    yield f"after {evaluation.options['calibration']} calibration, fitted on validation (before -> after):"
    for name, title in _OF_CALIBRATION.items():
        yield f"  {title:<18} {found[name].value:.3f} -> {_interval(found[f'calibrated/{name}'])}"


def _conformal(evaluation: RunEvaluation) -> Iterator[str]:
    if evaluation.posthoc is None:
        return
    yield "conformal prediction sets, fitted on validation:"
    estimates = evaluation.result.estimates
    for method, sets in evaluation.posthoc.conformal.items():
        coverage, size = (estimates[f"conformal/{method}/{name}"] for name in ("coverage", "set_size"))
        yield (
            f"  {method}: coverage {_interval(coverage)}, nominal {1 - sets.alpha:.0%}; "
            f"{size.value:.2f} classes in a set"
        )


def _operating(evaluation: RunEvaluation) -> Iterator[str]:
    posthoc = evaluation.posthoc
    points = [] if posthoc is None else [point for point in posthoc.points if point.target == MALIGNANT]
    if not points:
        return
    yield "operating points for malignancy, with thresholds from validation:"
    few = evaluation.result.too_few()
    for point in points:
        names = [f"operating/{point.name}/{name}" for name in ("sensitivity", "specificity")]
        found = {name: evaluation.result.estimates.get(name) for name in names}
        texts = ["-" if estimate is None else _interval(estimate, few.get(name)) for name, estimate in found.items()]
        yield f"  {point.rule:<15} p >= {point.threshold:.3f}: sensitivity {texts[0]}, specificity {texts[1]}"


def _gaps(evaluation: RunEvaluation) -> Iterator[str]:
    found = evaluation.result.subgroups.gaps
    gaps: Mapping[str, Gap] = {gap.attribute: gap for gap in found if gap.metric == WATCHED}
    if not gaps:
        return
    pairs = next(iter(gaps.values())).pairs
    yield (
        f"largest gaps in {short_of(WATCHED)} between subgroups, on the classes of which both have {LEAST_LESIONS} "
        f"lesions; the intervals are corrected for all {pairs} pairs compared:"
    )
    for attribute, gap in gaps.items():
        yield f"  {attribute.replace('_', ' '):<10} {gap.highest} - {gap.lowest}: {_interval(gap.difference)}"


def _interval(found: Estimate, few: str | None = None) -> str:
    """The value with its interval, and a star if it rests on too few lesions (see `classification_report`)."""
    return f"{found.value:.3f}{'*' if few else ''} ({found.low:.3f} to {found.high:.3f})"
