"""DeLong's test of areas under the ROC curve, with the images of a lesion taken together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class PlacedArea:
    """An area under the ROC curve and what each lesion contributes to its error."""

    auroc: float
    influence: FloatArray
    """float64 (L,): the variance of a sum of areas is the sum of squares of the sum of their influences."""
    lesions: tuple[int, int]
    """The numbers of lesions with positives and with negatives."""


def placed_area(scores: FloatArray, positive: BoolArray, lesion: IntArray, num_lesions: int) -> PlacedArea | None:
    """The area with the influence of each lesion; None with positives, or negatives, of fewer than two lesions.

    With P positives and N negatives, a positive's placement V is the share of negatives below its score (ties count
    half), a negative's the share of positives above; the area A is their mean. An image contributes (V - A) / P,
    respectively (V - A) / N, times sqrt(I / (I - 1)), where I is the number of lesions with positives, respectively
    negatives, and a lesion the sum of its images. This is Obuchowski's variance for clustered data, and DeLong's where
    each lesion has one image. (A lesion of both kinds, which no data set should have, gets the root of both factors.)

    DeLong's own test takes images for independent, and finds differences that are not there if lesions have several.
    Sources: DeLong et al. 1988, doi:10.2307/2531595; placements from ranks in O(n log n): Sun and Xu 2014,
    doi:10.1109/LSP.2014.2337313; clusters: Obuchowski 1997, doi:10.2307/2533958.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
        lesion: int (N,), the lesion of each image, in 0..L-1.
        num_lesions: L.
    """
    num_positive = int(np.count_nonzero(positive))
    num_negative = len(positive) - num_positive
    lesions = len(np.unique(lesion[~positive])), len(np.unique(lesion[positive]))
    if min(lesions) < 2:
        return None
    ranks = stats.rankdata(scores)
    placement = np.empty(len(scores))
    placement[positive] = (ranks[positive] - stats.rankdata(scores[positive])) / num_negative
    placement[~positive] = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / num_positive
    area = float(placement[positive].mean())
    share = [
        (known / (known - 1)) ** 0.5 / count for known, count in zip(lesions, (num_negative, num_positive), strict=True)
    ]
    per_image = (placement - area) * np.where(positive, share[1], share[0])
    influence = np.bincount(lesion, per_image, minlength=num_lesions).astype(np.float64)
    return PlacedArea(area, influence, (lesions[1], lesions[0]))


def delong_p(difference: float, influence: FloatArray) -> float | None:
    """Two-sided p-value of a difference of areas (or of their means) from the difference of their influences.

    None where no lesion has an influence though the areas differ: the normal approximation has nothing to say.
    """
    error = float(np.sqrt(np.square(influence).sum()))
    if error < 1e-12:
        return 1.0 if abs(difference) < 1e-12 else None
    return float(2 * stats.norm.sf(abs(difference) / error))
