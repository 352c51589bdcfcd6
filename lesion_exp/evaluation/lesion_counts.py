"""The number of lesions that each metric rests on, and whether there are enough of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Unit, lesion_of
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes
from lesion_exp.evaluation.predictions import classes_of, true_classes
from lesion_exp.evaluation.registry import SECTIONS

TOO_FEW: Final = "too few"
"""Shown instead of a test or a comparison if a metric rests on fewer than `LEAST_LESIONS` lesions."""
_OF_ALL: Final = ("accuracy", "balanced_accuracy", "brier", "ece")
"""Metrics of the malignant view that rest on all lesions although their names end with a class."""
_OF_THE_CLASS: Final = (
    *("recall", "precision", "f1", "average_precision"),
    *("sensitivity", "ppv", "dice", "ap", "coverage"),  # of the challenges, operating points and conformal sets
)
_OF_THE_REST: Final = ("specificity", "npv")
_OPERATING: Final = "operating/"
_CONFORMAL: Final = "conformal/"


@dataclass(frozen=True)
class LesionCounts:
    """The numbers of lesions in a predictions table."""

    total: int
    classes: Mapping[str, tuple[int, int]]
    """The lesions of each class, and those of all other classes; for several diagnoses also of `malignant`."""

    def of(self, metric: str) -> int:
        """Returns the number of lesions on which a metric, or a result of `SECTIONS`, rests.

        A result without a class rests on all lesions. For a class, recall, precision, F1 and average precision rest on
        its own lesions, specificity and NPV on those of the other classes, and metrics of the order of the scores
        (AUROC, sensitivity at a specificity) on the smaller of the two numbers.
        """
        family, name = _family_and_class(metric)
        if family in _OF_ALL or name not in self.classes:
            return self.total
        own, rest = self.classes[name]
        if family in _OF_THE_CLASS:
            return own
        return rest if family in _OF_THE_REST else min(own, rest)

    def is_of_class(self, metric: str) -> bool:
        """Returns whether the result is that of a class, not of the whole part."""
        return _family_and_class(metric)[1] in self.classes

    def too_few(self, metric: str) -> str:
        """Returns `too few (3 lesions)` if the metric rests on fewer than `LEAST_LESIONS`, else an empty text."""
        lesions = self.of(metric)
        return "" if is_enough(lesions) else too_few(lesions)


def _family_and_class(metric: str) -> tuple[str, str]:
    """Returns `recall` and `mel` of `recall/mel`, `ppv` and `mel` of `operating/mel/youden/ppv`; the class may be
    empty.

    The name of a class may contain a slash; the other parts of a metric's name may not.
    """
    if metric.startswith(_OPERATING):
        name, _, family = metric.removeprefix(_OPERATING).rsplit("/", 2)
        return family, name
    if metric.startswith(_CONFORMAL):
        metric = metric.removeprefix(_CONFORMAL).partition("/")[2]
    first, _, rest = metric.partition("/")
    family, _, name = (rest if first in SECTIONS else metric).partition("/")
    return family, name


def lesion_counts(table: pd.DataFrame) -> LesionCounts:
    """Returns the numbers of lesions of a predictions table and of each class."""
    lesion, total = lesion_of(table)
    names, true = classes_of(table), true_classes(table)
    positions = {name: np.array([place]) for place, name in enumerate(names)}
    kinds = malignant_classes(names)
    if kinds is not None:
        positions[MALIGNANT] = np.flatnonzero(kinds)
    found = {}
    for name, places in positions.items():
        own = np.isin(true, places)
        found[name] = len(np.unique(lesion[own])), len(np.unique(lesion[~own]))
    return LesionCounts(total, found)


def too_few_in_all(table: pd.DataFrame) -> str | None:
    """Returns a warning if a predictions table has fewer than `LEAST_LESIONS` lesions, else None."""
    total = lesion_of(table)[1]
    if is_enough(total):
        return None
    ending = "" if total == 1 else "s"
    size = f"{total:,} lesion{ending}" if knows_lesions(table) else f"{total:,} image{ending} without a known lesion"
    return f"every result here rests on {size}, {TOO_FEW} to evaluate a network; at least {LEAST_LESIONS} are needed"


def knows_lesions(table: pd.DataFrame) -> bool:
    """Returns whether a predictions table names the lesion of any image."""
    return "lesion_id" in table and bool(table["lesion_id"].notna().any())


def images_as_lesions(table: pd.DataFrame, unit: str) -> str | None:
    """Returns a warning if intervals are over lesions, and patients have several images whose lesions are unknown.

    Args:
        table: predictions table.
        unit: what the intervals are computed over, lesion or patient.
    """
    if unit != "lesion" or "patient_id" not in table:
        return None
    unknown = table[table["lesion_id"].isna()] if "lesion_id" in table else table
    patients = unknown["patient_id"].dropna()
    if patients.is_unique:
        return None
    return (
        f"the lesions of {len(patients):,} images of {patients.nunique():,} patients are unknown, so that each of them "
        f"counts as a lesion: the intervals are too narrow; evaluation.bootstrap_unit=patient computes them over "
        f"patients"
    )


def warnings_of_lesions(table: pd.DataFrame, unit: str) -> list[str]:
    """Returns the warnings about the lesions of a predictions table: `too_few_in_all` and `images_as_lesions`.

    Args:
        table: predictions table.
        unit: what the intervals are computed over, lesion or patient.
    """
    return [text for text in (too_few_in_all(table), images_as_lesions(table, unit)) if text is not None]


def is_enough(lesions: int) -> bool:
    """Returns whether this number of lesions is enough for a test or a comparison: at least `LEAST_LESIONS`."""
    return lesions >= LEAST_LESIONS


def too_few(lesions: int, unit: Unit = "lesion") -> str:
    """Returns `too few (3 lesions)`, or `too few (3 patients)`."""
    return f"{TOO_FEW} ({lesions:,} {unit}{'' if lesions == 1 else 's'})"
