"""The metrics of a predictions table, by the names under which they are logged (without `val/` or `test/`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.calibration import CALIBRATION, calibration_metrics
from lesion_exp.evaluation.confusion import FAMILIES, OF_ALL_CLASSES, confusion_metrics, nan_mean
from lesion_exp.evaluation.limits import Limits, mean_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes, malignant_view
from lesion_exp.evaluation.predictions import (
    FloatArray,
    IntArray,
    classes_of,
    has_labels_only,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.ranking import SENSITIVITY_AT, SPECIFICITY_AT, ranking_metrics
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Score, Weighted, defined, merged, resampled

_RANKED: Final = ("auroc", "average_precision", *SENSITIVITY_AT, *SPECIFICITY_AT)
OF_PROBABILITIES: Final = frozenset({*_RANKED, AUROC_MACRO, *CALIBRATION})
"""Metrics, without their class, that a table with labels only does not have (see `predictions.has_labels_only`)."""
OVERALL: Final = (*OF_ALL_CLASSES, AUROC_MACRO, *CALIBRATION)
OF_A_CLASS: Final = (*FAMILIES, *_RANKED)
OF_THE_VIEW: Final = ("accuracy", "balanced_accuracy", *OF_A_CLASS, "brier", "ece")
"""The metrics `<metric>/malignant`, of the malignant view of a table with several diagnoses."""


def metrics(table: pd.DataFrame, names: Collection[str] | None = None) -> dict[str, float]:
    """Returns every metric of a predictions table, or those in `names`.

    These are `OVERALL`, `<metric>/<class>` for `OF_A_CLASS`, and for several diagnoses `<metric>/malignant` for
    `OF_THE_VIEW`. Means are over the classes present; `f1_macro_sklearn` also counts classes that are only predicted.
    Undefined metrics are left out, so no value is NaN: those of a class without images, except its specificity, the
    specificity and AUROC of a class to which all images belong, and `OF_PROBABILITIES` where classes alone are known.
    For definitions and sources see `confusion`, `ranking`, `calibration` and `malignant_view`.

    Raises:
        DataError: `table` is not a predictions table (see `predictions.check`).
    """
    group = np.arange(len(table))
    return defined(weighted_metrics(table, group, len(table), names), len(table))


def metric_names(classes: Sequence[str]) -> list[str]:
    """Returns the names of all metrics that a table with these classes can have."""
    view = OF_THE_VIEW if malignant_classes(classes) else ()
    return [
        *OVERALL,
        *(f"{family}/{name}" for name in classes for family in OF_A_CLASS),
        *(f"{family}/{MALIGNANT}" for family in view),
    ]


def weighted_metrics(
    table: pd.DataFrame,
    group: IntArray,
    num_groups: int,
    names: Collection[str] | None = None,
    ranked: Sequence[Weighted] | None = None,
    view: pd.DataFrame | None = None,
) -> Weighted:
    """Returns the metrics of `table` as a function of the weights of groups of images, for estimates and bootstraps.

    Args:
        table: predictions table.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        names: the names of the metrics; None: all.
        ranked: `ranking_of_classes` of the table, if the caller also uses it elsewhere; None computes it.
        view: `malignant_view` of the table, if the caller has it; None computes it.
    """
    classes = classes_of(table)
    known = metric_names(classes)
    wanted = set(known if names is None else names)
    if has_labels_only(table):
        wanted = {name for name in wanted if name.partition("/")[0] not in OF_PROBABILITIES}
    parts = [_of_classes(table, group, num_groups, wanted, ranked)]
    of_view = {name for name in wanted if name.endswith(f"/{MALIGNANT}")} if MALIGNANT not in classes else set()
    if of_view:
        parts.append(_of_malignant_view(malignant_view(table) if view is None else view, group, num_groups, of_view))
    return merged(("", part) for part in parts).only([name for name in known if name in wanted])


def metrics_and_added(
    table: pd.DataFrame, group: IntArray, num_groups: int, names: Collection[str], added: Mapping[str, Score]
) -> Weighted:
    """Returns the metrics in `names`, of which `added` are functions of images (see `weighted.resampled`).

    The other arguments are those of `weighted_metrics`.
    """
    own = weighted_metrics(table, group, num_groups, [name for name in names if name not in added])
    if not added:
        return own
    scores = {name: score for name, score in added.items() if name in names}
    return merged((("", own), ("", resampled(scores, probabilities(table), true_classes(table), group))))


def _of_classes(
    table: pd.DataFrame,
    group: IntArray,
    num_groups: int,
    wanted: Collection[str],
    ranked: Sequence[Weighted] | None = None,
) -> Weighted:
    classes, true, probs = classes_of(table), true_classes(table), probabilities(table)
    families = {name.split("/", maxsplit=1)[0] for name in wanted}
    parts: list[Weighted] = []
    if families & {*OF_ALL_CLASSES, *FAMILIES}:
        parts.append(confusion_metrics(true, predicted_classes(table), group, num_groups, classes))
    if families & set(CALIBRATION):
        parts.append(calibration_metrics(probs, true, group, num_groups))
    with_macro = AUROC_MACRO in wanted
    for position, name in enumerate(classes):
        own = [family for family in _RANKED if f"{family}/{name}" in wanted or (with_macro and family == "auroc")]
        if own:
            scores, positive = probs[:, position], true == position
            at_class = ranked[position] if ranked else ranking_metrics(scores, positive, group, num_groups, own)
            parts.append(at_class.renamed({family: f"{family}/{name}" for family in own}))
    found = merged(("", part) for part in parts)
    return _with_macro_area(found, classes) if with_macro else found


def _with_macro_area(found: Weighted, classes: Sequence[str]) -> Weighted:
    """Returns `found` with `auroc_macro`, the mean of the areas that are defined."""
    names = [f"auroc/{name}" for name in classes]

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values = found(weights)
        return {**values, AUROC_MACRO: nan_mean(np.stack([values[name] for name in names]))}

    def limits() -> Limits:
        areas = [found.limits[name]() for name in names]
        return mean_limits([area for area in areas if not np.isnan(area.value)])

    return Weighted(at, {**found.limits, AUROC_MACRO: limits}, found.bounds, found.drawn())


def _of_malignant_view(
    view: pd.DataFrame | None, group: IntArray, num_groups: int, wanted: Collection[str]
) -> Weighted:
    assert view is not None, "metric_names() only has metrics of the view if there is one"
    families = [name.removesuffix(f"/{MALIGNANT}") for name in wanted]
    names = {
        f"{family}/{MALIGNANT}" if family in OF_A_CLASS else family: f"{family}/{MALIGNANT}" for family in families
    }
    return _of_classes(view, group, num_groups, names).renamed(names)
