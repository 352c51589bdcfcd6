"""The share of a network's predictions that were right on its test part, by the confidence of the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.lesion_counts import is_enough
from lesion_exp.evaluation.limits import proportion_limits
from lesion_exp.evaluation.predictions import (
    classes_of,
    known_rows,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.taxonomy import malignancy


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95% interval (Wilson's, with an effective number of lesions)."""

    value: float
    low: float
    high: float
    images: int
    lesions: int

    @property
    def is_of_few(self) -> bool:
        """Whether the rate rests on too few lesions (see `is_enough`)."""
        return not is_enough(self.lesions)


@dataclass(frozen=True)
class AnswerRates:
    """How often predictions on a test part were right, as an estimate for new images."""

    right: tuple[Rate | None, ...]
    """The share of right predictions in each band of confidence, the lowest band first; None for a band without images.
    """
    malignant_sensitivity: Rate | None
    """The share of images of malignant lesions whose predicted class is malignant. None without such images, and where
    the classes are not known to be malignant or benign."""


def answer_rates(table: pd.DataFrame, edges: Sequence[float]) -> AnswerRates:
    """Returns the rates of a test part, from the probabilities in its predictions table.

    Args:
        table: predictions of images that were not used to train, select or calibrate the network.
        edges: the ends of the bands of the highest probability, in rising order. A band contains its lower edge; the
            last band also contains its upper edge.

    Raises:
        DataError: `table` is not a predictions table.
    """
    table = known_rows(table).reset_index(drop=True)
    true, predicted = true_classes(table), predicted_classes(table)
    band = np.clip(np.digitize(probabilities(table).max(axis=1), edges) - 1, 0, len(edges) - 2)
    right = tuple(_rate(table, band == place, true == predicted) for place in range(len(edges) - 1))
    kinds = np.array([malignancy(name) is True for name in classes_of(table)])
    tells = kinds.any() and any(malignancy(name) is False for name in classes_of(table))
    return AnswerRates(right, _rate(table, kinds[true], kinds[predicted]) if tells else None)


def _rate(table: pd.DataFrame, counted: npt.NDArray[np.bool_], hits: npt.NDArray[np.bool_]) -> Rate | None:
    """Returns the share of `hits` among the `counted` images; None if no image is counted."""
    if not counted.any():
        return None
    lesion, num_lesions = lesion_of(table[counted])
    whole = np.bincount(lesion, minlength=num_lesions).astype(np.float64)
    part = np.bincount(lesion, hits[counted], minlength=num_lesions).astype(np.float64)
    found = proportion_limits(part, whole)
    return Rate(found.value, found.low, found.high, int(counted.sum()), num_lesions)
