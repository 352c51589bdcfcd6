"""A judgement in words and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lesion_exp.choices import POOLED
from lesion_exp.evaluation.classification_report import classification_report
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.isic import note_on_unk, titles
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.predictions import classes_of, unknown_counts
from lesion_exp.evaluation.registry import WATCHED, short_of
from lesion_exp.evaluation.subgroups import Gap
from lesion_exp.evaluation.unknown import AUROC, FPR
from lesion_exp.evaluation.unknown import SECTION as UNKNOWN
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation

_COLUMNS: Final = 80
_ISIC_TITLE: Final = 54
"""Beside it a value with its interval fits into 80 columns; longer titles are broken."""
_OF_CALIBRATION = {name: short_of(name) for name in ("ece", "brier", "nll")}


def as_text(judged: RunEvaluation) -> str:
    """The evaluation as text of at most 80 columns or so."""
    study = judged.study
    table, unit = study.table, study.options.unit
    report, _ = classification_report(table, study.intervals, unit=unit, added=study.added)
    what = judged.run_name
    if judged.members and judged.options["ensemble"] != POOLED:
        what = f"{len(judged.members)} runs as one: {judged.options['ensemble']}"
    lines = [f"{what}: {judged.title}", f"test-time augmentation: {judged.options['tta']}", ""]
    if judged.leaky:
        lines.insert(0, "LEAKY: images of the training data reappear in what is judged")
    for block in (_unknown, _isic, _calibrated, _conformal, _operating, _gaps):
        text = list(block(judged))
        if text:
            report += "\n" + "\n".join(text) + "\n"
    for warning in study.warnings:
        report += f"\n{textwrap.fill('warning: ' + warning, _COLUMNS)}\n"
    return "\n".join(lines) + report


def as_json(judged: RunEvaluation) -> dict[str, Any]:
    """The evaluation as plain values: `metrics` hold all with value, low and high, and `too_few` where that is so."""
    study = judged.study
    values: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in study.metrics.items()}
    values |= {name: found._asdict() for name, found in study.estimates.items()}
    for name, said in study.too_few().items():
        values[name]["too_few"] = said
    return {
        "run_id": judged.run_id,
        "judged": judged.name,
        "images": len(study.table),
        "unknown_images": unknown_counts(study.whole),
        "members": list(judged.members),
        "evaluation": dict(judged.options),
        "leaky": judged.leaky,
        "warnings": study.warnings,
        "classes": list(classes_of(study.table)),
        "metrics": values,
        "subgroups": study.subgroups.to_dict(),
    }


def _unknown(judged: RunEvaluation) -> Iterator[str]:
    if not judged.study.unknown:
        return
    yield from textwrap.wrap(f"{judged.study.note}.", _COLUMNS)
    yield "how well scores tell them from the others:"
    for name in judged.study.unknown:
        if (score := name.removeprefix(f"{UNKNOWN}/{AUROC}/")) != name:
            fpr = judged.study.estimates[f"{UNKNOWN}/{FPR}/{score}"]
            auroc = judged.study.estimates[name]
            yield f"  {score.replace('_', ' '):<16} AUROC {_interval(auroc)}, FPR at 95% TPR {_interval(fpr)}"


def _isic(judged: RunEvaluation) -> Iterator[str]:
    names, found = titles(classes_of(judged.study.table)), judged.study.estimates
    few = judged.study.too_few()
    for name, title in names.items():
        if name in found:
            *lines, last = textwrap.wrap(title, _ISIC_TITLE, subsequent_indent="  ")
            yield from (*lines, f"{last:<{_ISIC_TITLE}}  {_interval(found[name], few.get(name))}")
    yield from textwrap.wrap(note_on_unk(classes_of(judged.study.table)), _COLUMNS)


def _calibrated(judged: RunEvaluation) -> Iterator[str]:
    if judged.study.calibrated is None:
        return
    found = judged.study.estimates
    yield f"after {judged.options['calibration']} calibration, fitted on validation (before -> after):"
    for name, title in _OF_CALIBRATION.items():
        yield f"  {title:<18} {found[name].value:.3f} -> {_interval(found[f'calibrated/{name}'])}"


def _conformal(judged: RunEvaluation) -> Iterator[str]:
    if judged.fitted is None:
        return
    yield "conformal prediction sets, fitted on validation:"
    for method, sets in judged.fitted.conformal.items():
        coverage, size = (judged.study.estimates[f"conformal/{method}/{name}"] for name in ("coverage", "set_size"))
        yield (
            f"  {method}: coverage {_interval(coverage)}, promised {1 - sets.alpha:.0%}; {size.value:.2f} classes a set"
        )


def _operating(judged: RunEvaluation) -> Iterator[str]:
    points = [] if judged.fitted is None else [point for point in judged.fitted.points if point.target == MALIGNANT]
    if not points:
        return
    yield "operating points for malignancy, thresholds fixed on validation:"
    few = judged.study.too_few()
    for point in points:
        names = [f"operating/{point.name}/{name}" for name in ("sensitivity", "specificity")]
        found = {name: judged.study.estimates.get(name) for name in names}
        texts = ["-" if estimate is None else _interval(estimate, few.get(name)) for name, estimate in found.items()]
        yield f"  {point.rule:<15} p >= {point.threshold:.3f}: sensitivity {texts[0]}, specificity {texts[1]}"


def _gaps(judged: RunEvaluation) -> Iterator[str]:
    gaps: Mapping[str, Gap] = {gap.attribute: gap for gap in judged.study.subgroups.gaps if gap.metric == WATCHED}
    if not gaps:
        return
    pairs = next(iter(gaps.values())).pairs
    yield (
        f"largest gaps of {short_of(WATCHED)} between subgroups, on the classes that both have {LEAST_LESIONS} lesions "
        f"of; the intervals allow for all {pairs} pairs compared:"
    )
    for attribute, gap in gaps.items():
        yield f"  {attribute.replace('_', ' '):<10} {gap.highest} - {gap.lowest}: {_interval(gap.difference)}"


def _interval(found: Estimate, few: str | None = None) -> str:
    """The value with its interval; what rests on too few lesions has the star that the table of classes explains."""
    return f"{found.value:.3f}{'*' if few else ''} ({found.low:.3f} to {found.high:.3f})"
