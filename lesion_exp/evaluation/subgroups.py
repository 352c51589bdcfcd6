"""Results of subgroups of lesions, and the gaps between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import ndtri

from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, lesion_of, units_of
from lesion_exp.evaluation.lesion_counts import TOO_FEW, is_enough, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS, Limits, combined_limits, proportion_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view, scores_of, targets
from lesion_exp.evaluation.metrics import OF_PROBABILITIES, weighted_metrics
from lesion_exp.evaluation.predictions import (
    LABELS_ONLY,
    PREFIX,
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    has_labels_only,
    predicted_classes,
    true_classes,
)
from lesion_exp.evaluation.weighted import merged

UNKNOWN: Final = "unknown"
_AGE_EDGES: Final = (30, 45, 60, 75)
_OF_ALL: Final = ("accuracy", "balanced_accuracy")
_OF_MALIGNANCY: Final = (f"recall/{MALIGNANT}", f"specificity/{MALIGNANT}", f"auroc/{MALIGNANT}")
COMPARED: Final = ("balanced_accuracy", f"recall/{MALIGNANT}", f"specificity/{MALIGNANT}")
"""Metrics that are means over classes of a share of right images; others also depend on the class frequencies."""
_LEVEL: Final = 0.05
_READ: Final = ("label", "prediction", "lesion_id", LABELS_ONLY)
"""Columns that the metrics of a subgroup are computed from, beside the probabilities."""


@dataclass(frozen=True)
class Cell:
    """A subgroup and its metrics. A metric that rests on fewer than 20 lesions is None, and "too few" in files."""

    attribute: str
    name: str
    images: int
    lesions: int
    classes: tuple[str, ...]
    """The true classes of its images, over which its balanced accuracy is a mean."""
    estimates: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class Subgroups:
    """All subgroups and gaps of a predictions table."""

    cells: list[Cell]
    gaps: list[Gap]
    classes: tuple[str, ...]
    """The true classes of all images, over which the overall balanced accuracy is a mean."""
    overall: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        cells = [
            {
                "attribute": cell.attribute,
                "group": cell.name,
                "images": cell.images,
                "lesions": cell.lesions,
                "classes": list(cell.classes),
                "metrics": {name: _plain(found) for name, found in cell.estimates.items()},
            }
            for cell in self.cells
        ]
        gaps = [
            {
                "attribute": gap.attribute,
                "metric": gap.metric,
                "highest": gap.highest,
                "lowest": gap.lowest,
                **gap.difference._asdict(),
                "classes": list(gap.classes),
                "pairs": gap.pairs,
            }
            for gap in self.gaps
        ]
        overall = {name: found._asdict() for name, found in self.overall.items()}
        head = {"least_lesions": LEAST_LESIONS, "classes": list(self.classes)}
        return {**head, "overall": overall, "cells": cells, "largest_gaps": gaps}


def subgroups(table: pd.DataFrame, draws: int = 2000, seed: int = 0, unit: Unit = "lesion") -> Subgroups:
    """Returns the metrics of each subgroup with 95% intervals, and the largest gap of each metric in each attribute.

    A metric needs 20 lesions of the kind on which it rests: any lesions for accuracies, malignant ones for their
    recall, benign ones for the specificity, and 20 of either kind for the AUROC. The balanced accuracy of a subgroup is
    the mean over the classes of its images (`Cell.classes`), which may be fewer than those of the whole table. Gaps
    compare two subgroups on their common classes (`largest_gaps`).
    """
    group, num_groups = units_of(table, unit)
    names = [*_OF_ALL, *(_OF_MALIGNANCY if MALIGNANT in targets(classes_of(table)) else ())]
    if has_labels_only(table):
        names = [name for name in names if name.partition("/")[0] not in OF_PROBABILITIES]
    masks = {
        (attribute, name): (values == name).to_numpy()
        for attribute, values in attributes(table).items()
        for name in _in_order(attribute, values)
    }
    table = table[[name for name in table.columns if name in _READ or str(name).startswith(PREFIX)]]
    view = malignant_view(table)
    counts = {cell: lesion_counts(table[mask]) for cell, mask in masks.items()}
    shown = {cell: [name for name in names if not counts[cell].too_few(name)] for cell in masks}
    parts = {
        cell: weighted_metrics(
            table[mask], group[mask], num_groups, shown[cell], view=None if view is None else view[mask]
        )
        for cell, mask in masks.items()
        if shown[cell]
    }

    at = merged((_key(*cell, ""), part) for cell, part in parts.items())
    found = bootstrap(at, num_groups, draws, seed) if parts else {}
    cells = [
        Cell(
            *cell,
            int(mask.sum()),
            counts[cell].total,
            _present(table[mask]),
            {name: found.get(_key(*cell, name)) for name in names},
        )
        for cell, mask in masks.items()
    ]
    known = {cell: mask for cell, mask in masks.items() if cell[1] != UNKNOWN}
    gaps = largest_gaps(table, group, num_groups, known)
    overall = bootstrap(weighted_metrics(table, group, num_groups, names, view=view), num_groups, draws, seed)
    return Subgroups(cells, gaps, _present(table), overall)


def attributes(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns the subgroup of each image by attribute, `unknown` if it is not recorded.

    Attributes with fewer than two recorded values are left out.
    """
    found: dict[str, pd.Series] = {}
    if "age" in table:
        found["age"] = table["age"].map(age_band)
    for column in ("sex", "site", "source"):
        if column in table:
            found[column] = table[column].map(_text)
    if "skin_tone" in table:
        found["skin_tone"] = table["skin_tone"].map(_text)
    return {name: values for name, values in found.items() if values[values != UNKNOWN].nunique() > 1}


def age_band(age: float | None) -> str:
    """Returns `under 30`, `30-44`, `45-59`, `60-74` or `75 and over`, in years; `unknown` without an age."""
    if age is None or not np.isfinite(age):
        return UNKNOWN
    first, *_, last = _AGE_EDGES
    if age < first:
        return f"under {first}"
    if age >= last:
        return f"{last} and over"
    below = max(edge for edge in _AGE_EDGES if edge <= age)
    return f"{below}-{_AGE_EDGES[_AGE_EDGES.index(below) + 1] - 1}"


def missing_classes(classes: Sequence[str], of: Sequence[str], most: int = 6) -> str:
    """Returns the classes of `of` that are not among `classes` as a text: `df, mel`, or if there are more than `most`
    their number."""
    names = [name for name in of if name not in classes]
    return ", ".join(names) if len(names) <= most else f"{len(names)} classes"


def _present(table: pd.DataFrame) -> tuple[str, ...]:
    """Returns the true classes of the images of a table, in class order."""
    classes = classes_of(table)
    return tuple(classes[place] for place in np.unique(true_classes(table)))


def _in_order(attribute: str, values: pd.Series) -> list[str]:
    """Returns the subgroups of an attribute: ages in rising order, others by name, `unknown` last."""
    names = sorted(set(values), key=lambda name: (attribute == "age" and not name.startswith("under"), name))
    return sorted(names, key=lambda name: name == UNKNOWN)


def _text(value: Any) -> str:
    if value is None or value != value or str(value).strip().lower() in {"", "unknown", "nan", "none"}:
        return UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def _key(attribute: str, name: str, metric: str) -> str:
    return f"{attribute}\t{name}\t{metric}"


def _plain(found: Estimate | None) -> dict[str, float] | str:
    return TOO_FEW if found is None else found._asdict()


@dataclass(frozen=True)
class Gap:
    """The largest difference of a metric between two subgroups of an attribute."""

    attribute: str
    metric: str
    highest: str
    lowest: str
    difference: Estimate
    """With a 95% interval that is corrected for all pairs of subgroups compared in this metric."""
    classes: tuple[str, ...]
    """The classes with enough lesions in both subgroups, over which the metric is the mean."""
    pairs: int
    """The number of pairs of subgroups compared in this metric, over all attributes."""


def largest_gaps(
    table: pd.DataFrame, group: IntArray, num_groups: int, masks: Mapping[tuple[str, str], BoolArray]
) -> list[Gap]:
    """Returns the largest gap of each metric in each attribute.

    Subgroups are compared on the classes of which both have at least 20 lesions. The metrics are means over these
    classes of the share of right images (balanced accuracy), of malignant images predicted as malignant, and of benign
    images not predicted as malignant. So neither missing classes nor other class frequencies cause a gap; accuracies
    and AUROCs, which depend on the frequencies, are not compared. The interval is that of a difference of means of
    proportions (`combined_limits`). It is valid for all pairs compared in the metric at once: its level is 5% divided
    by their number (Bonferroni; Dunn 1961, doi:10.1080/01621459.1961.10482090), because the largest of many gaps would
    otherwise often exclude 0 by chance. In simulations without any difference (`scripts/false_gaps.py`) at most 5% of
    the tables have a largest gap whose interval excludes 0.

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
        quantile = float(ndtri(1 - _LEVEL / 2 / pairs))
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
    """Returns, for each metric, which images are right, bool (N,), and the positions of the classes over which it is a
    mean.
    """
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
