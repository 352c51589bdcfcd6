"""The share of a network's predictions that were right on its test part, by the confidence of the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Unit, lesion_of, units_of
from lesion_exp.evaluation.lesion_counts import is_enough
from lesion_exp.evaluation.limits import proportion_limits
from lesion_exp.evaluation.predictions import (
    BoolArray,
    IntArray,
    classes_of,
    known_rows,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.taxonomy import malignancy


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95% interval (Wilson's, with an effective number of lesions or patients)."""

    value: float
    low: float
    high: float
    images: int
    lesions: int
    patients: int | None = None
    """The number of patients; None if the interval is over lesions."""

    @property
    def is_of_few(self) -> bool:
        """Whether the rate rests on too few lesions or patients (see `is_enough`)."""
        return not is_enough(self.lesions if self.patients is None else self.patients)


@dataclass(frozen=True)
class AnswerRates:
    """How often predictions on a test part were right, as an estimate for new images."""

    right: tuple[Rate | None, ...]
    """The share of right predictions in each band of confidence, the lowest band first; None for a band without images.
    """
    malignant_sensitivity: Rate | None
    """The share of images of malignant lesions whose predicted class is malignant. None without such images, and where
    the classes are not known to be malignant or benign."""


def answer_rates(table: pd.DataFrame, edges: Sequence[float], unit: Unit = "lesion") -> AnswerRates:
    """Returns the rates of a test part, from the probabilities in its predictions table.

    Args:
        table: predictions of images that were not used to train, select or calibrate the network.
        edges: the ends of the bands of the highest probability, in rising order. A band contains its lower edge; the
            last band also contains its upper edge.
        unit: what the intervals are over.

    Raises:
        DataError: `table` is not a predictions table.
        ConfigError: the unit is patients, and no image has one.
    """
    table = known_rows(table).reset_index(drop=True)
    true, predicted = true_classes(table), predicted_classes(table)
    band = np.clip(np.digitize(probabilities(table).max(axis=1), edges) - 1, 0, len(edges) - 2)
    lesion, group = lesion_of(table)[0], units_of(table, unit)[0]

    def rate(counted: BoolArray, hits: BoolArray) -> Rate | None:
        return _rate(lesion[counted], group[counted], hits[counted], unit) if counted.any() else None

    right = tuple(rate(band == place, true == predicted) for place in range(len(edges) - 1))
    kinds = np.array([malignancy(name) is True for name in classes_of(table)])
    tells = kinds.any() and any(malignancy(name) is False for name in classes_of(table))
    return AnswerRates(right, rate(kinds[true], kinds[predicted]) if tells else None)


def _rate(lesion: IntArray, group: IntArray, hits: BoolArray, unit: Unit) -> Rate:
    """Returns the share of `hits` (N,) among images of these lesions, with its interval over the groups of images."""
    codes, groups = pd.factorize(group)
    whole = np.bincount(codes, minlength=len(groups)).astype(np.float64)
    part = np.bincount(codes, hits, minlength=len(groups)).astype(np.float64)
    found = proportion_limits(part, whole)
    patients = len(groups) if unit == "patient" else None
    return Rate(found.value, found.low, found.high, len(hits), len(np.unique(lesion)), patients)
