"""The largest difference between two subgroups, on the classes that both of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from lesion_exp.evaluation.intervals import Estimate, lesion_of
from lesion_exp.evaluation.lesion_counts import is_enough
from lesion_exp.evaluation.limits import Limits, combined_limits, proportion_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    predicted_classes,
    true_classes,
)
from lesion_exp.evaluation.target import scores_of, targets

COMPARED: Final = ("balanced_accuracy", f"recall/{MALIGNANT}", f"specificity/{MALIGNANT}")
"""Metrics that are means over classes of a share of right images; the others change with the mix of classes alone."""
_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Gap:
    """The largest difference of a metric between two subgroups of an attribute."""

    attribute: str
    metric: str
    highest: str
    lowest: str
    difference: Estimate
    """Its 95% interval allows for all pairs of subgroups that were compared in this metric."""
    classes: tuple[str, ...]
    """Those that both subgroups have enough lesions of; the metric is the mean over them."""
    pairs: int
    """How many pairs of subgroups were compared in this metric, over all attributes."""


def largest_gaps(
    table: pd.DataFrame, group: IntArray, num_groups: int, masks: Mapping[tuple[str, str], BoolArray]
) -> list[Gap]:
    """The largest gap of each metric in each attribute.

    Subgroups are compared on the classes of which both have 20 lesions: the mean over these classes of the share of
    right images (balanced accuracy), of malignant images called malignant, of benign ones not called so. So neither a
    class that one of them lacks, nor another mix of classes, makes a gap; accuracies and AUROCs, which change with the
    mix, are not compared. The interval is that of a difference of means of proportions (`combined_limits`), and holds
    for all pairs compared in the metric at once: its level is 5% divided by their number (Bonferroni; Dunn 1961,
    doi:10.1080/01621459.1961.10482090), because the largest of many gaps excludes 0 easily. In simulations without any
    difference (`scripts/false_gaps.py`) at most 5% of the tables have a largest gap whose interval excludes 0.

    Args:
        table: predictions table.
        group: int (N,), the lesion or patient of each image, in 0..G-1.
        num_groups: G.
        masks: bool (N,), the images of each known subgroup, by attribute and name.
    """
    right, true, names = _right(table), true_classes(table), classes_of(table)
    lesion, _ = lesion_of(table)
    enough = {
        cell: [c for c in range(len(names)) if is_enough(len(np.unique(lesion[mask & (true == c)])))]
        for cell, mask in masks.items()
    }
    asked: dict[tuple[str, str, str, str], list[int]] = {}
    for metric, (_, of_metric) in right.items():
        for (attribute, one), (other_attribute, other) in combinations(masks, 2):
            shared = [c for c in enough[attribute, one] if c in enough[other_attribute, other] and c in of_metric]
            if attribute == other_attribute and shared:
                asked[metric, attribute, one, other] = shared
    found: dict[tuple[str, str], Gap] = {}
    for (metric, attribute, one, other), shared in asked.items():
        pairs = sum(key[0] == metric for key in asked)
        quantile = float(stats.norm.ppf(1 - _LEVEL / 2 / pairs))
        hits, _ = right[metric]
        parts = [
            _share(hits, masks[attribute, name] & (true == c), group, num_groups, quantile)
            for name in (one, other)
            for c in shared
        ]
        signs = [1 / len(shared)] * len(shared) + [-1 / len(shared)] * len(shared)
        value = sum(sign * part.value for sign, part in zip(signs, parts, strict=True))
        if value < 0:
            one, other, signs = other, one, [-sign for sign in signs]
        limits = combined_limits(signs, parts)
        known = found.get((attribute, metric))
        if known is None or limits.value > known.difference.value:
            difference = Estimate(limits.value, limits.low, limits.high)
            found[attribute, metric] = Gap(
                attribute, metric, one, other, difference, tuple(names[c] for c in shared), pairs
            )
    return list(found.values())


def _right(table: pd.DataFrame) -> dict[str, tuple[BoolArray, Sequence[int]]]:
    """By metric which images are right, bool (N,), and the positions of the classes that it is a mean over."""
    classes, true = classes_of(table), true_classes(table)
    found: dict[str, tuple[BoolArray, Sequence[int]]] = {
        COMPARED[0]: (predicted_classes(table) == true, range(len(classes)))
    }
    if MALIGNANT in targets(classes):
        view = table if MALIGNANT in classes else malignant_view(table)
        assert view is not None, "targets() names malignant only where there is a view"
        called = (view["prediction"].astype(str) == MALIGNANT).to_numpy(dtype=np.bool_)
        positive = scores_of(table, MALIGNANT)[1]
        found[COMPARED[1]] = called, sorted(set(true[positive].tolist()))
        found[COMPARED[2]] = ~called, sorted(set(true[~positive].tolist()))
    return found


def _share(hits: BoolArray, mask: BoolArray, group: IntArray, num_groups: int, quantile: float) -> Limits:
    part: FloatArray = np.bincount(group[mask & hits], minlength=num_groups).astype(np.float64)
    whole: FloatArray = np.bincount(group[mask], minlength=num_groups).astype(np.float64)
    return proportion_limits(part, whole, quantile=quantile)
