"""The metrics of a predictions table, by the names under which they are logged (without `val/` or `test/`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from lesion_exp.evaluation.calibration import calibration_metrics
from lesion_exp.evaluation.confusion import Weighted, confusion_metrics, mean_of_determined
from lesion_exp.evaluation.predictions import (
    FloatArray,
    IntArray,
    classes_of,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.ranking import BoolArray, auroc, average_precision

OVERALL = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "brier", "nll", "ece")
OF_A_CLASS = ("recall", "precision", "specificity", "f1", "auroc", "average_precision")


def metrics(table: pd.DataFrame) -> dict[str, float]:
    """Every metric of a predictions table: those of `OVERALL`, and `<metric>/<class>` for those of `OF_A_CLASS`.

    Means go over the classes present. What is not determined is left out: everything but the specificity of a class
    without images, the specificity and AUROC of a class that all images have. So no value is NaN. Definitions and
    sources: `confusion`, `ranking`, `calibration`.

    Raises:
        DataError: this is no predictions table (see `predictions.check`).
    """
    group = np.arange(len(table))
    values = weighted_metrics(table, group, len(table))(np.ones((len(table), 1)))
    return {name: float(value[0]) for name, value in values.items() if not np.isnan(value[0])}


def metric_names(classes: Sequence[str]) -> list[str]:
    """The names of all metrics that a table with these classes may have."""
    return [*OVERALL, *(f"{family}/{name}" for name in classes for family in OF_A_CLASS)]


def weighted_metrics(
    table: pd.DataFrame, group: IntArray, num_groups: int, names: Iterable[str] | None = None
) -> Weighted:
    """The metrics of `table` as a function of the weights of groups of its images, for estimates and bootstraps alike.

    Args:
        table: predictions table.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        names: the metrics that are computed; None is all.
    """
    classes = classes_of(table)
    known = metric_names(classes)
    wanted = set(known if names is None else names)
    true, probs = true_classes(table), probabilities(table)
    parts: list[Weighted] = []
    families = {name.split("/", maxsplit=1)[0] for name in wanted}
    if families & {"accuracy", "balanced_accuracy", "f1_macro", "recall", "precision", "specificity", "f1"}:
        parts.append(confusion_metrics(true, predicted_classes(table), group, num_groups, classes))
    if families & {"brier", "nll", "ece"}:
        parts.append(calibration_metrics(probs, true, group, num_groups))
    macro = classes if "auroc_macro" in wanted else ()
    for family, area, always in (("auroc", auroc, macro), ("average_precision", average_precision, ())):
        chosen = [position for position, name in enumerate(classes) if name in always or f"{family}/{name}" in wanted]
        if chosen:
            parts.append(_one_vs_rest(family, area, chosen, classes, true, probs, group, num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {}
        for part in parts:
            values |= part(weights)
        if macro:
            values["auroc_macro"] = mean_of_determined(np.stack([values[f"auroc/{name}"] for name in classes]))
        return {name: values[name] for name in known if name in wanted}

    return at


def _one_vs_rest(
    family: str,
    area: Callable[[FloatArray, BoolArray, IntArray, int], Weighted],
    chosen: Sequence[int],
    classes: Sequence[str],
    true: IntArray,
    probs: FloatArray,
    group: IntArray,
    num_groups: int,
) -> Weighted:
    areas = {f"{family}/{classes[c]}": area(probs[:, c], true == c, group, num_groups) for c in chosen}
    return lambda weights: {name: at(weights)[family] for name, at in areas.items()}
