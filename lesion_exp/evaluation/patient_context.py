"""The context of a lesion: how a value of it compares with the same value of the other lesions of its patient.

Dermatologists call a lesion that differs from the others of its patient an ugly duckling (Grob and Bonerandi 1998,
Arch Dermatol 134:103-104). The context uses ids and values only, never labels, so that it can be computed where
predictions are made: from all images of the patient that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray

STATISTICS: Final = ("difference", "z", "rank")
"""The statistics that `PatientContext.compared` returns for a value, in this order."""
LARGEST_Z: Final = 10.0
"""Larger z-scores are cut off: a patient with two almost equal lesions would have z-scores without bounds."""
_LEAST_DEVIATION: Final = 1e-6
"""Smaller deviations of the other lesions, relative to the largest value, give no z-score."""


@dataclass(frozen=True)
class PatientContext:
    """The patients and lesions of N images."""

    patient: IntArray
    """Position of each image's patient, int64 (N,); -1 if its patient is unknown."""
    lesion: IntArray
    """Position of each image's lesion, int64 (N,)."""
    num_lesions: FloatArray
    """Number of lesions of each image's patient, float64 (N,); NaN if its patient is unknown."""

    @classmethod
    def of(cls, table: pd.DataFrame) -> Self:
        """Returns the context of a table with the columns `patient_id` and `lesion_id`, which may be missing.

        An image without `lesion_id` is a lesion. A lesion id that several patients share is a lesion of each.
        """
        lesion, _ = lesion_of(table)
        if "patient_id" not in table:
            return cls(np.full(len(table), -1), lesion, np.full(len(table), np.nan))
        patient = pd.factorize(table["patient_id"])[0].astype(np.int64)
        lesion = pd.factorize(pd.MultiIndex.from_arrays([patient, lesion]))[0].astype(np.int64)
        known = patient >= 0
        num_lesions = np.full(len(table), np.nan)
        if known.any():
            pairs = np.unique(np.stack([patient[known], lesion[known]], axis=1), axis=0)
            num_lesions[known] = np.bincount(pairs[:, 0])[patient[known]]
        return cls(patient, lesion, num_lesions)

    @property
    def known(self) -> BoolArray:
        """Whether the patient of each image is known, bool (N,)."""
        return self.patient >= 0

    @property
    def is_empty(self) -> bool:
        """Whether no patient has two lesions, so that there is nothing to compare."""
        return not (self.num_lesions > 1).any()

    def compared(self, values: FloatArray) -> FloatArray:
        """Compares each image with the other lesions of its patient, each of which counts as the mean of its images.

        - `difference`: the value less the mean of the other lesions;
        - `z`: the difference over the standard deviation of the other lesions, between -10 and 10; NaN if there are
          fewer than two, or if they are equal;
        - `rank`: the share of the other lesions whose value is smaller; equal ones count half.

        Photographs of the image's own lesion do not count. All three are NaN if the value is missing, if the
        patient is unknown, or if no other lesion has a value.

        Args:
            values: float (N,), NaN if missing.

        Returns:
            float64 (N, 3), in the order of `STATISTICS`.
        """
        found = np.full((len(values), len(STATISTICS)), np.nan)
        usable = np.flatnonzero(self.known & ~np.isnan(values))
        order = usable[np.argsort(self.patient[usable], kind="stable")]
        starts = np.flatnonzero(np.diff(self.patient[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else ():
            found[rows] = _of_patient(np.asarray(values[rows], dtype=np.float64), self.lesion[rows])
        return found


def _of_patient(values: FloatArray, lesion: IntArray) -> FloatArray:
    """Returns the result of `PatientContext.compared` for the images of one patient."""
    result = np.full((len(values), len(STATISTICS)), np.nan)
    _, own = np.unique(lesion, return_inverse=True)
    size = int(own.max()) + 1
    others = size - 1
    if others < 1:
        return result
    centred = values - values.mean()  # sums of squares of centred values lose no digits
    means = np.bincount(own, centred) / np.bincount(own)
    mean = (means.sum() - means[own]) / others
    result[:, 0] = centred - mean
    if others > 1:
        squares = (means**2).sum() - means[own] ** 2 - others * mean**2
        deviation = np.sqrt(np.maximum(squares, 0.0) / (others - 1))
        clear = deviation > _LEAST_DEVIATION * max(float(np.abs(centred).max()), _LEAST_DEVIATION)
        scores = np.divide(result[:, 0], deviation, out=np.full(len(values), np.nan), where=clear)
        result[:, 1] = np.clip(scores, -LARGEST_Z, LARGEST_Z)
    ordered = np.sort(means)
    below = np.searchsorted(ordered, centred, "left") - (means[own] < centred)
    equal = np.searchsorted(ordered, centred, "right") - np.searchsorted(ordered, centred, "left")
    result[:, 2] = (below + (equal - (means[own] == centred)) / 2) / others
    return result


def groups_of(table: pd.DataFrame) -> IntArray:
    """Returns the group of each image, int64 (N,). Images of one group must not be in both fit and evaluation.

    A group is a patient if known, else a lesion, else an image. Groups that share a patient, a lesion or a value of
    the column `group`, which the split writes, are united.
    """
    group, _ = lesion_of(table)
    for column in ("patient_id", "group"):
        if column in table and table[column].notna().any():
            group = _united(group, pd.factorize(table[column])[0].astype(np.int64))
    return group


def _united(first: IntArray, second: IntArray) -> IntArray:
    """Returns the groups in which two images are together if either argument has them together; -1 in `second` joins
    none.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(second >= 0)
    offset = int(first.max()) + 1
    size = offset + int(second.max()) + 1
    links = coo_matrix((np.ones(len(rows), np.int8), (first[rows], offset + second[rows])), shape=(size, size))
    component = connected_components(links, directed=False)[1]
    return np.unique(component[first], return_inverse=True)[1].astype(np.int64)
