"""How good a model is for whom: metrics by age band, sex, site, source and skin tone, and the largest gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.gaps import Gap, largest_gaps
from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.lesion_counts import TOO_FEW, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import BoolArray, IntArray, classes_of, true_classes
from lesion_exp.evaluation.target import targets
from lesion_exp.evaluation.weighted import Weighted, merged

UNKNOWN: Final = "unknown"
_AGE_EDGES: Final = (30, 45, 60, 75)
_OF_ALL: Final = ("accuracy", "balanced_accuracy")
_OF_MALIGNANCY: Final = (f"recall/{MALIGNANT}", f"specificity/{MALIGNANT}", f"auroc/{MALIGNANT}")


@dataclass(frozen=True)
class Cell:
    """A subgroup; a metric that rests on fewer than 20 lesions is None, which files show as "too few"."""

    attribute: str
    name: str
    images: int
    lesions: int
    classes: tuple[str, ...]
    """The true classes of its images, which its balanced accuracy is a mean over."""
    estimates: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class Subgroups:
    """All cells and gaps of a table."""

    cells: list[Cell]
    gaps: list[Gap]
    classes: tuple[str, ...]
    """The true classes of all images, which the balanced accuracy of the whole is a mean over."""
    overall: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
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
    """The metrics of each subgroup with 95% intervals, and the largest gap of each metric in each attribute.

    A metric needs 20 lesions of the kind that it rests on: all for accuracies, malignant ones for their recall, benign
    ones for the specificity, of either kind for the AUROC. The balanced accuracy of a subgroup is the mean over the
    classes that it has images of (`Cell.classes`), which may be fewer than the whole's; gaps compare two subgroups on
    the classes that both have (`largest_gaps`).
    """
    group, num_groups = units_of(table, unit)
    names = [*_OF_ALL, *(_OF_MALIGNANCY if MALIGNANT in targets(classes_of(table)) else ())]
    masks = {
        (attribute, name): (values == name).to_numpy()
        for attribute, values in attributes(table).items()
        for name in _in_order(attribute, values)
    }
    counts = {cell: lesion_counts(table[mask]) for cell, mask in masks.items()}
    shown = {cell: [name for name in names if not counts[cell].too_few(name)] for cell in masks}
    parts = {cell: _weighted_cell(table, group, num_groups, masks[cell], shown[cell]) for cell in masks if shown[cell]}

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
    overall = bootstrap(weighted_metrics(table, group, num_groups, names), num_groups, draws, seed)
    return Subgroups(cells, gaps, _present(table), overall)


def attributes(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The subgroup of each image by attribute, `unknown` where nobody noted it; attributes that nobody noted, and those
    with one value, are left out."""
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
    """`under 30`, `30-44`, `45-59`, `60-74` or `75 and over`, in years; `unknown` without an age."""
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
    """The classes of `of` that are not among `classes`, in words: `df, mel`; more than `most` are counted."""
    names = [name for name in of if name not in classes]
    return ", ".join(names) if len(names) <= most else f"{len(names)} classes"


def _present(table: pd.DataFrame) -> tuple[str, ...]:
    """The true classes of its images, in class order."""
    classes = classes_of(table)
    return tuple(classes[place] for place in np.unique(true_classes(table)))


def _in_order(attribute: str, values: pd.Series) -> list[str]:
    """Ages rising, others by name; the unknown last."""
    names = sorted(set(values), key=lambda name: (attribute == "age" and not name.startswith("under"), name))
    return sorted(names, key=lambda name: name == UNKNOWN)


def _text(value: Any) -> str:
    if value is None or value != value or str(value).strip().lower() in {"", "unknown", "nan", "none"}:
        return UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def _weighted_cell(
    table: pd.DataFrame, group: IntArray, num_groups: int, mask: BoolArray, names: list[str]
) -> Weighted:
    return weighted_metrics(table[mask].reset_index(drop=True), group[mask], num_groups, names)


def _key(attribute: str, name: str, metric: str) -> str:
    return f"{attribute}\t{name}\t{metric}"


def _plain(found: Estimate | None) -> dict[str, float] | str:
    return TOO_FEW if found is None else found._asdict()
