"""Answers of a run to checklist items on its results."""

from __future__ import annotations

from collections import Counter

from lesion_exp.evaluation.figures.style import NUMBERED_FROM
from lesion_exp.evaluation.lesion_counts import lesion_counts
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.predictions import has_labels_only
from lesion_exp.evaluation.registry import WATCHED, short_of, words_of
from lesion_exp.split import PARTS
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import OVERALL, largest_gap, warnings_of
from lesion_exp.trained_runs.wording import Value, as_value, listed, number, with_interval, within
from lesion_exp.verbs.report.sections.galleries import maps_in_words
from lesion_exp.verbs.report.sections.results import elsewhere, most_frequent_confusions, shortcut_verdicts
from lesion_exp.verbs.report.sections.subgroups import NOT_COMPARED


def performance(facts: RunSummary) -> str | None:
    """The overall metrics."""
    names = [name for name in OVERALL if name in facts.values]
    words = [f"{short_of(name)} {with_interval(facts.values[name])}" for name in names]
    return f"{PARTS[facts.part or 'val'].capitalize()} part: {'; '.join(words)}." if words else None


def diagnostic(facts: RunSummary) -> str | None:
    """Sensitivity, specificity and AUROC for malignancy, else of each class; for many classes a reference."""
    of = [MALIGNANT] if f"recall/{MALIGNANT}" in facts.values else facts.classes
    if len(of) >= NUMBERED_FROM and any(f"recall/{name}" in facts.values for name in of):
        return f"The table of classes has sensitivity, specificity and AUROC of each of {len(of)} classes."
    words = [
        f"{name}: {', '.join(_named(facts, family, name) for family in ('recall', 'specificity', 'auroc'))}"
        for name in of
        if f"recall/{name}" in facts.values
    ]
    return f"{'; '.join(words)}." if words else None


def measures(facts: RunSummary) -> str | None:
    """The reported measures."""
    if not facts.values:
        return None
    further = [words for name, words in (("decision_curve", "a decision curve"), ("operating", "operating points"),
                                         ("conformal", "conformal sets")) if facts.evaluation_file(name)]  # fmt: skip
    named = [short_of(name) for name in OVERALL if name in facts.values]
    if facts.predictions is not None and not has_labels_only(facts.predictions):
        further = ["a reliability diagram", *further]
    words = listed([*named, "metrics of each class", *further])
    return f"{words[:1].upper()}{words[1:]}."


def uncertainty(facts: RunSummary) -> str | None:
    """The computation of intervals."""
    how = facts.evaluation_file("metrics").get("interval")
    words = f"Intervals: {how}. " if how else ""
    has_any = any(value.low is not None for value in facts.values.values())
    return f"{words}No hypothesis is tested on this page." if has_any else None


def subgroups(facts: RunSummary) -> str | None:
    """The largest gap between subgroups, or the attributes whose subgroups are too small to be compared."""
    gap = largest_gap(facts)
    if gap:
        return f"{gap[0].upper()}{gap[1:]}."
    found = facts.evaluation_file("subgroups")
    attributes = dict.fromkeys(cell["attribute"].replace("_", " ") for cell in found.get("cells", []))
    if not attributes:
        return None
    if not any(as_value(value) for cell in found["cells"] for value in cell["metrics"].values()):
        return f"No subgroup by {listed(list(attributes))} has enough lesions for a metric."
    compared = "" if found.get("largest_gaps") else f" {NOT_COMPARED}"
    return f"The table of subgroups has the metrics by {listed(list(attributes))}.{compared}"


def clusters(facts: RunSummary) -> str | None:
    """The balanced accuracy of each source."""
    cells = [cell for cell in facts.evaluation_file("subgroups").get("cells", []) if cell["attribute"] == "source"]
    found = [(cell["group"], as_value(cell["metrics"].get(WATCHED))) for cell in cells]
    words = [f"{name} {with_interval(value)}" for name, value in found if value]
    return f"{words_of(WATCHED)} by source: {'; '.join(words)}." if words else None


def recalibration(facts: RunSummary) -> str | None:
    """The expected calibration error and the log loss before and after calibration."""
    calibrated = facts.evaluation_file("calibrated")
    both = [(name, facts.values.get(name), as_value(calibrated.get(name))) for name in ("ece", "nll")]
    words = [
        f"{within(words_of(name))} {number(before.value)} before, {with_interval(after)} after"
        for name, before, after in both
        if before is not None and after is not None
    ]
    if not words:
        return None
    return f"{str(calibrated['calibration']).capitalize()} scaling, fitted on validation: {'; '.join(words)}."


def external(facts: RunSummary) -> str | None:
    """The evaluations on other data sets."""
    found = {name: as_value(metrics.get(WATCHED)) for name, metrics in elsewhere(facts).items()}
    words = [f"{name}: {short_of(WATCHED)} {with_interval(value)}" for name, value in found.items()
             if value and not name.startswith(("test-", "val-"))]  # fmt: skip
    return f"{'; '.join(words)}." if words else None


def robustness(facts: RunSummary) -> str | None:
    """The evaluations of changed images, and the shortcut checks."""
    found = {name: as_value(metrics.get(WATCHED)) for name, metrics in elsewhere(facts).items()}
    words = [f"{name}: {short_of(WATCHED)} {with_interval(value)}" for name, value in found.items()
             if value and name.startswith(("test-", "val-"))]  # fmt: skip
    levels = Counter(level for _, level, _ in shortcut_verdicts(facts))
    if levels:
        words.append(f"checks for shortcuts: {', '.join(f'{count} {level}' for level, count in levels.items())}")
    return f"{'; '.join(words)}." if words else None


def explanations(facts: RunSummary) -> str | None:
    """The methods of saliency maps."""
    methods = sorted({name.split("/")[1] for name in facts.kept.below("explanations") if name.count("/") > 1})
    return f"Saliency maps: {'; '.join(map(maps_in_words, methods))}." if methods else None


def failures(facts: RunSummary) -> str | None:
    """The number of wrong predictions, and the most frequent confusions."""
    return most_frequent_confusions(facts)


def limits(facts: RunSummary) -> str | None:
    """The warnings of the page."""
    return " ".join(warnings_of(facts)) or None


def _named(facts: RunSummary, family: str, name: str) -> str:
    value: Value | None = facts.values.get(f"{family}/{name}")
    few = "" if facts.predictions is None else lesion_counts(facts.predictions).too_few(f"{family}/{name}")
    return f"{short_of(family)} {with_interval(value)}{f', {few}' if few else ''}"
