"""How often the answers of a network were right on images that it was tested on, as measured, with intervals."""

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
        """Whether it rests on fewer lesions than a statement needs."""
        return not is_enough(self.lesions)


@dataclass(frozen=True)
class AnswerRates:
    """What a test part says of answers like those that are given now."""

    right: tuple[Rate | None, ...]
    """The share of right predictions in each band of confidence, the lowest first; None where no image was in it."""
    malignant_sensitivity: Rate | None
    """The share of images of malignant lesions whose likeliest class is a malignant one; None where there are none, or
    the classes do not tell."""


def answer_rates(table: pd.DataFrame, edges: Sequence[float]) -> AnswerRates:
    """The rates of a predictions table of a test part, with the probabilities as they are shown.

    Args:
        table: predictions of images that the network was neither trained, chosen nor calibrated on.
        edges: rising, where the bands of the highest probability begin and end; a band holds its lower edge, and the
            last one its upper edge, too.

    Raises:
        DataError: this is no predictions table.
    """
    table = known_rows(table).reset_index(drop=True)
    true, predicted = true_classes(table), predicted_classes(table)
    band = np.clip(np.digitize(probabilities(table).max(axis=1), edges) - 1, 0, len(edges) - 2)
    right = tuple(_rate(table, band == place, true == predicted) for place in range(len(edges) - 1))
    kinds = np.array([malignancy(name) is True for name in classes_of(table)])
    tells = kinds.any() and any(malignancy(name) is False for name in classes_of(table))
    return AnswerRates(right, _rate(table, kinds[true], kinds[predicted]) if tells else None)


def _rate(table: pd.DataFrame, counted: npt.NDArray[np.bool_], hits: npt.NDArray[np.bool_]) -> Rate | None:
    """The share of `hits` among the `counted` images; None without any."""
    if not counted.any():
        return None
    lesion, num_lesions = lesion_of(table[counted])
    whole = np.bincount(lesion, minlength=num_lesions).astype(np.float64)
    part = np.bincount(lesion, hits[counted], minlength=num_lesions).astype(np.float64)
    found = proportion_limits(part, whole)
    return Rate(found.value, found.low, found.high, int(counted.sum()), num_lesions)
