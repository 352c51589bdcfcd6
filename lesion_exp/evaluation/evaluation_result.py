"""The evaluation of a predictions table: every result that a run stores, with an interval for each metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from matplotlib.figure import Figure

from lesion_exp.evaluation.calibration import CALIBRATION
from lesion_exp.evaluation.calibrator import CalibrationEffect, calibration_effect
from lesion_exp.evaluation.class_mapping import mapping_in_words, mapping_of
from lesion_exp.evaluation.conformal import conformal_metrics
from lesion_exp.evaluation.decision_curve import DecisionCurve, decision_curve
from lesion_exp.evaluation.failures import failures
from lesion_exp.evaluation.figures.curves import decision_curve_figure, reliability_before_and_after
from lesion_exp.evaluation.figures.subgroups import subgroup_figure
from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, intervals_in_words, units_of
from lesion_exp.evaluation.isic import weighted_isic_metrics
from lesion_exp.evaluation.lesion_counts import lesion_counts, warnings_of_lesions
from lesion_exp.evaluation.malignant_view import MALIGNANT, targets
from lesion_exp.evaluation.metrics import metrics, weighted_metrics
from lesion_exp.evaluation.posthoc import PosthocModels, operating_point_metrics
from lesion_exp.evaluation.predictions import (
    classes_of,
    has_labels_only,
    is_rescaled,
    is_unknown,
    known_rows,
    probabilities,
    true_classes,
    unknown_counts,
    unknown_in_words,
)
from lesion_exp.evaluation.ranking import ranking_of_classes
from lesion_exp.evaluation.registry import SECTIONS, is_added, shown_in
from lesion_exp.evaluation.subgroups import Subgroups, subgroups
from lesion_exp.evaluation.unknown import SECTION as UNKNOWN
from lesion_exp.evaluation.unknown import unknown_metrics
from lesion_exp.evaluation.weighted import Score, Weighted, defined, merged, resampled

_BY_CLASS: Final = ("isic",)
"""The sections in which the names of results end with a class."""
_OF_CALIBRATED: Final = (*CALIBRATION, *shown_in("epoch"))
"""The metrics that are computed from calibrated probabilities, too."""
MAPPING_FILE: Final = "class_mapping.json"
_LABELS_ONLY: Final = (
    "the predictions are classes without probabilities: there are no areas, calibration, thresholds and prediction sets"
)
_RESCALED: Final = (
    "rows of confidences were divided by their sums (rescale=true), which changes the order of the images: areas and "
    "results at thresholds are not those of the confidences, and of the scores of the challenges only the balanced "
    "accuracy is given, which the division does not change"
)


@dataclass(frozen=True)
class EvaluationOptions:
    """How a predictions table is evaluated."""

    draws: int = 2000
    seed: int = 0
    unit: Unit = "lesion"
    calibration: str = "none"
    """The calibration that is evaluated too: a key of `PosthocModels.calibrators`, or `none`."""


@dataclass(frozen=True)
class EvaluationResult:
    """A predictions table with everything that was computed from it."""

    whole: pd.DataFrame
    """All predictions, including those of images of unknown classes."""
    table: pd.DataFrame
    """The predictions of images of known classes, from which all metrics except `unknown` are computed."""
    metrics: dict[str, float]
    """The metrics of `table` by name, including those that the config adds."""
    unknown: dict[str, float]
    """How well unknown classes are detected, by names such as `unknown/auroc/energy`; empty without such images."""
    estimates: dict[str, Estimate]
    """Metrics with intervals, and the results of `SECTIONS` by names such as `isic/balanced_accuracy`."""
    subgroups: Subgroups
    decision: DecisionCurve | None
    """None if the classes are not known to be malignant or benign."""
    calibrated: pd.DataFrame | None
    """`table` with calibrated probabilities; None without a calibration."""
    effect: CalibrationEffect | None
    """The log loss before and after that calibration."""
    options: EvaluationOptions

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95% interval of each of `metrics` that has one."""
        return {name: found.interval for name, found in self.estimates.items() if name in self.metrics}

    @property
    def added(self) -> dict[str, float]:
        """The metrics that the config adds."""
        return {name: value for name, value in self.metrics.items() if is_added(name)}

    @property
    def note(self) -> str:
        """Sentences about mapped labels, images that no metric counts, and missing metrics; usually empty."""
        counts = unknown_counts(self.whole)
        sentences = mapping_in_words(self.whole)
        if counts and not sentences:
            sentences.append(unknown_in_words(counts))
        sentences += [_LABELS_ONLY] if has_labels_only(self.table) else []
        sentences += [_RESCALED] if is_rescaled(self.table) else []
        return ". ".join(f"{text[:1].upper()}{text[1:]}" for text in sentences)

    @property
    def warnings(self) -> list[str]:
        """Warnings about too few lesions, images that count as lesions, and a calibration that makes the probabilities
        worse.
        """
        effect = None if self.effect is None else self.effect.warning
        return [*warnings_of_lesions(self.table, self.options.unit), *([] if effect is None else [effect])]

    def section_results(self) -> dict[str, float]:
        """Returns the results of `SECTIONS`, such as `isic/balanced_accuracy`, with their intervals (see
        `with_intervals`)."""
        values = {name: found.value for name, found in self.estimates.items() if _section(name)}
        return with_intervals(values, self.estimates)

    def too_few(self) -> dict[str, str]:
        """Returns `too few (3 lesions)` for each result of a class that rests on too few lesions, by its name."""
        counts = lesion_counts(self.table)
        names = [*self.metrics, *(name for name in self.estimates if _section(name))]
        return {name: text for name in names if counts.is_of_class(name) and (text := counts.too_few(name))}

    def files(self) -> dict[str, Any]:
        """Returns the content of each JSON file by its name.

        A metric of a class that rests on too few lesions has an entry `too_few` beside its value.
        """
        plain = {**self.metrics, **self.unknown}
        sections: dict[str, dict[str, Any]] = {"metrics": {name: {"value": value} for name, value in plain.items()}}
        for name, found in self.estimates.items():
            section = _section(name)
            sections.setdefault(section or "metrics", {})[name.removeprefix(f"{section}/")] = found._asdict()
        for name, text in self.too_few().items():
            section = _section(name)
            sections[section or "metrics"][name.removeprefix(f"{section}/")]["too_few"] = text
        head = {
            "images": len(self.table),
            "interval": intervals_in_words(self.options.draws, self.options.unit),
            "unit": self.options.unit,
        }
        if self.unknown:
            counts = unknown_counts(self.whole)
            sections["metrics"]["unknown_images"] = {"images": sum(counts.values()), "classes": counts}
        if self.calibrated is not None:
            warning = None if self.effect is None else self.effect.warning
            about = {"calibration": self.options.calibration} | ({"warning": warning} if warning else {})
            sections["calibrated"] = {**about, **sections["calibrated"]}
        how = {
            "calibration": "none" if self.calibrated is None else self.options.calibration,
            "bootstrap_draws": self.options.draws,
            "bootstrap_seed": self.options.seed,
        }
        sections["metrics"] = {**how, **sections["metrics"]}
        content: dict[str, Any] = {f"{name}.json": {**head, **found} for name, found in sections.items()}
        content["subgroups.json"] = self.subgroups.to_dict()
        content["failures.json"] = failures(self.table)
        if mapping := mapping_of(self.whole):
            content[MAPPING_FILE] = mapping
        if self.decision is not None:
            content["decision_curve.json"] = self.decision.to_dict()
        return content

    def figures(self, title: str) -> Iterator[tuple[str, Figure]]:
        """Yields the file name and the figure of each picture; `title` names the model and the images."""
        of_subgroups = subgroup_figure(self.subgroups, f"subgroups, {title}")
        if of_subgroups is not None:
            yield "subgroups.png", of_subgroups
        if self.calibrated is not None:
            figure = reliability_before_and_after(
                self.table, self.calibrated, self.options.calibration, f"reliability, {title}", self.options.unit
            )
            yield "calibration.png", figure
        if self.decision is not None:
            yield "decision_curve.png", decision_curve_figure(self.decision, f"decision curve, {title}")


def evaluate_table(
    table: pd.DataFrame,
    posthoc: PosthocModels | None = None,
    options: EvaluationOptions | None = None,
    added: Mapping[str, Score] | None = None,
) -> EvaluationResult:
    """Evaluates a predictions table.

    Images of unknown classes only count for the metrics of `unknown`.

    Args:
        table: predictions table.
        posthoc: the models that were fitted on the validation part. Without them, as for the validation part itself,
            calibration, conformal sets and operating points are left out.
        options: how the table is evaluated; None: the defaults.
        added: further metrics by name. Where one is undefined for the table, it is left out.

    Raises:
        ConfigError: the number of draws is not positive, or patients are the unit and no image has one.
        DataError: `table` is not a predictions table.
    """
    options = options or EvaluationOptions()
    whole, table = table, known_rows(table).reset_index(drop=True)
    labels_only = has_labels_only(table)
    posthoc = None if labels_only else posthoc
    group, num_groups = units_of(table, options.unit)
    ranked = ranking_of_classes(probabilities(table), true_classes(table), group, num_groups)
    further = resampled(added or {}, probabilities(table), true_classes(table), group)
    own = weighted_metrics(table, group, num_groups, ranked=ranked)
    parts: dict[str, Weighted] = {
        "": merged((("", own), ("", further))),
        "isic/": weighted_isic_metrics(table, group, num_groups, ranked),
    }
    calibrated = effect = None
    if posthoc is not None:
        for method, sets in posthoc.conformal.items():
            parts[f"conformal/{method}/"] = conformal_metrics(table, sets, group, num_groups)
        parts["operating/"] = operating_point_metrics(table, posthoc.points, group, num_groups)
        if options.calibration != "none":
            calibrated = posthoc.calibrators[options.calibration].calibrate(table)
            effect = calibration_effect(table, options.calibration, posthoc.calibrators, options.unit)
            parts["calibrated/"] = weighted_metrics(calibrated, group, num_groups, _OF_CALIBRATED)
    estimates = bootstrap(merged(parts.items()), num_groups, options.draws, options.seed)
    unknown = _unknown(whole, posthoc, options)
    acted_on = table if calibrated is None else calibrated
    has_malignancy = MALIGNANT in targets(classes_of(table)) and not labels_only
    return EvaluationResult(
        whole,
        table,
        metrics(table) | defined(further, num_groups),
        {name: found.value for name, found in unknown.items()},
        estimates | unknown,
        subgroups(table, options.draws, options.seed, options.unit),
        decision_curve(acted_on, MALIGNANT, options.draws, options.seed, options.unit) if has_malignancy else None,
        calibrated,
        effect,
        options,
    )


def _unknown(whole: pd.DataFrame, posthoc: PosthocModels | None, options: EvaluationOptions) -> dict[str, Estimate]:
    if not is_unknown(whole).any():
        return {}
    group, num_groups = units_of(whole, options.unit)
    at = unknown_metrics(whole, {} if posthoc is None else posthoc.conformal, group, num_groups)
    found = bootstrap(at, num_groups, options.draws, options.seed)
    return {f"{UNKNOWN}/{name}": estimate for name, estimate in found.items()}


def with_intervals(values: Mapping[str, float], estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Returns `values` with the ends of their intervals, named `<metric>_low` and `<metric>_high`.

    Metrics of single classes are left out (only the JSON files have their intervals): the interval of a class `dys`
    would have the same name as the metric of a class `dys_low`.
    """
    bounds: dict[str, float] = {}
    for name in values:
        if name in estimates and not _is_of_class(name):
            bounds |= {f"{name}_low": estimates[name].low, f"{name}_high": estimates[name].high}
    return {**values, **bounds}


def _is_of_class(name: str) -> bool:
    if name.startswith(f"{UNKNOWN}/"):  # ends in a score
        return False
    section = _section(name)
    return section in ("", *_BY_CLASS) and "/" in name.removeprefix(f"{section}/")


def _section(name: str) -> str:
    first = name.split("/", maxsplit=1)[0]
    return first if first in SECTIONS else ""
