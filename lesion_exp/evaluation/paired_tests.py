"""The tests between two models on the same images, of the overall answers and of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lesion_exp.evaluation.delong import PlacedArea, delong_p, placed_area
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.lesion_counts import is_enough, lesion_counts
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.mcnemar import mcnemar_p, surplus_of
from lesion_exp.evaluation.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    predicted_classes,
    probabilities,
    true_classes,
)


@dataclass(frozen=True)
class _OneClass:
    """A class against the rest, for each table."""

    positive: BoolArray
    right: list[IntArray]
    areas: list[PlacedArea | None]


class PairedTests:
    """McNemar's and DeLong's test between any two of several tables with the same rows; the tables are read once.

    Classes are the diagnoses, and for several of them `malignant`, their malignant view.
    """

    def __init__(self, tables: Sequence[pd.DataFrame]) -> None:
        self.lesion, self.num_lesions = lesion_of(tables[0])
        self.counts = lesion_counts(tables[0])
        self.diagnoses = classes_of(tables[0])
        self.right = [self._right(table) for table in tables]
        self.classes = {name: self._one_class(name, tables, self.right) for name in self.diagnoses}
        if MALIGNANT not in self.diagnoses:
            views = [view for view in map(malignant_view, tables) if view is not None]
            if views:
                self.classes[MALIGNANT] = self._one_class(MALIGNANT, views, [self._right(view) for view in views])

    def mcnemar(self, one: int, two: int, class_name: str | None) -> float:
        """The p-value over all images, or over those of a class."""
        right = self.right if class_name is None else self.classes[class_name].right
        chosen = slice(None) if class_name is None else self.classes[class_name].positive
        surplus = surplus_of(right[one][chosen], right[two][chosen], self.lesion[chosen], self.num_lesions)
        return mcnemar_p(surplus)

    def has_large_classes(self, class_name: str | None) -> bool:
        """Whether the class, or each of the diagnoses present, and its rest have enough lesions for DeLong's test.

        Its normal approximation finds too many differences in a mean over classes of which one has few lesions.
        """
        known = [name for name in self.diagnoses if self.classes[name].positive.any()]
        names = known if class_name is None else [class_name]
        return all(is_enough(self.counts.of(f"auroc/{name}")) for name in names)

    def delong(self, one: int, two: int, class_name: str | None, difference: float) -> float | None:
        """The p-value of the area of a class, or of the mean over the diagnoses present."""
        present = [name for name in self.diagnoses if self.classes[name].positive.any()]
        influences: list[FloatArray] = []
        for name in present if class_name is None else [class_name]:
            first, second = self.classes[name].areas[one], self.classes[name].areas[two]
            if first is None or second is None:
                return None
            influences.append(first.influence - second.influence)
        return delong_p(difference, np.mean(influences, axis=0))

    def _right(self, table: pd.DataFrame) -> IntArray:
        right: IntArray = (predicted_classes(table) == true_classes(table)).astype(np.int64)
        return right

    def _one_class(self, name: str, tables: Sequence[pd.DataFrame], right: list[IntArray]) -> _OneClass:
        place = classes_of(tables[0]).index(name)
        positive = true_classes(tables[0]) == place
        scores = [probabilities(table)[:, place] for table in tables]
        areas = [placed_area(found, positive, self.lesion, self.num_lesions) for found in scores]
        return _OneClass(positive, right, areas)
