"""How many lesions each metric rests on, and whether these are enough to judge by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes
from lesion_exp.evaluation.predictions import classes_of, true_classes
from lesion_exp.evaluation.registry import SECTIONS

TOO_FEW: Final = "too few"
"""What stands in place of a judgement where a metric rests on fewer than `LEAST_LESIONS` lesions."""
_OF_ALL: Final = ("accuracy", "balanced_accuracy", "brier", "ece")
"""Metrics of the malignant view that rest on all its lesions, although their names end with its class."""
_OF_THE_CLASS: Final = (
    *("recall", "precision", "f1", "average_precision"),
    *("sensitivity", "ppv", "dice", "ap", "coverage"),  # of the sections: challenges, operating points, conformal sets
)
_OF_THE_REST: Final = ("specificity", "npv")
_OPERATING: Final = "operating/"
_CONFORMAL: Final = "conformal/"


@dataclass(frozen=True)
class LesionCounts:
    """The lesions of a predictions table."""

    total: int
    classes: Mapping[str, tuple[int, int]]
    """The lesions of each class and those of all other classes; for several diagnoses also those of `malignant`."""

    def of(self, metric: str) -> int:
        """The number of lesions on which a result rests, a plain one or one of `SECTIONS`.

        A result without a class rests on all lesions. Of a class, recall, precision, F1 and average precision rest on
        its own lesions, the specificity and the NPV on those of the rest, and what depends on the order of the scores
        (AUROC, sensitivity at a specificity) on the rarer of both.
        """
        family, name = _family_and_class(metric)
        if family in _OF_ALL or name not in self.classes:
            return self.total
        own, rest = self.classes[name]
        if family in _OF_THE_CLASS:
            return own
        return rest if family in _OF_THE_REST else min(own, rest)

    def is_of_class(self, metric: str) -> bool:
        """Whether the result is one of a class, not of the whole part."""
        return _family_and_class(metric)[1] in self.classes

    def too_few(self, metric: str) -> str:
        """`too few (3 lesions)` where these are fewer than `LEAST_LESIONS`, else empty."""
        lesions = self.of(metric)
        return "" if is_enough(lesions) else too_few(lesions)


def _family_and_class(metric: str) -> tuple[str, str]:
    """`recall` and `mel` of `recall/mel`, `ppv` and `mel` of `operating/mel/youden/ppv`; the class may be empty.

    A class's name may hold a slash, what stands around it may not.
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
    """The lesions of a predictions table, each counted once, and of each class."""
    lesion, total = lesion_of(table)
    names, true = classes_of(table), true_classes(table)
    members = {name: np.array([place]) for place, name in enumerate(names)}
    kinds = malignant_classes(names)
    if kinds is not None:
        members[MALIGNANT] = np.flatnonzero(kinds)
    found = {}
    for name, places in members.items():
        own = np.isin(true, places)
        found[name] = len(np.unique(lesion[own])), len(np.unique(lesion[~own]))
    return LesionCounts(total, found)


def too_few_in_all(table: pd.DataFrame) -> str | None:
    """A sentence where a predictions table has too few lesions for any result on it to judge a network by."""
    total = lesion_of(table)[1]
    if is_enough(total):
        return None
    lesions = f"{total:,} {'lesion' if total == 1 else 'lesions'}"
    return f"every result here rests on {lesions}, {TOO_FEW} to judge a network by; at least {LEAST_LESIONS} are needed"


def is_enough(lesions: int) -> bool:
    """Whether so many lesions are enough to test, compare or judge by: at least `LEAST_LESIONS`."""
    return lesions >= LEAST_LESIONS


def too_few(lesions: int) -> str:
    """`too few (3 lesions)`."""
    return f"{TOO_FEW} ({lesions:,} {'lesion' if lesions == 1 else 'lesions'})"
