"""DeLong's test of areas under the ROC curve, for images that are clustered in lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class PlacedArea:
    """An area under the ROC curve and the contribution of each lesion to its error."""

    auroc: float
    influence: FloatArray
    """float64 (L,): the variance of a sum of areas is the sum of squares of the sum of their influences."""
    lesions: tuple[int, int]
    """The numbers of lesions with positive and with negative images."""


def placed_area(scores: FloatArray, positive: BoolArray, lesion: IntArray, num_lesions: int) -> PlacedArea | None:
    """Returns the area with the influence of each lesion; None if positives or negatives come from fewer than two
    lesions.

    With P positives and N negatives, the placement V of a positive is the share of negatives with a lower score (ties
    count half), that of a negative the share of positives with a higher score; the area A is their mean. A positive
    image contributes (V - A) / P, a negative one (V - A) / N, times sqrt(I / (I - 1)), where I is the number of lesions
    with positive or negative images, respectively. A lesion contributes the sum of its images. This is Obuchowski's
    variance for clustered data, and DeLong's if each lesion has one image.

    DeLong's own test assumes independent images, and finds differences that do not exist if lesions have several
    images. Sources: DeLong et al. 1988, doi:10.2307/2531595; placements from ranks in O(n log n): Sun and Xu 2014,
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
    from scipy.stats import rankdata  # importing it takes long

    ranks = rankdata(scores)
    placement = np.empty(len(scores))
    placement[positive] = (ranks[positive] - rankdata(scores[positive])) / num_negative
    placement[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / num_positive
    area = float(placement[positive].mean())
    share = [
        (known / (known - 1)) ** 0.5 / count for known, count in zip(lesions, (num_negative, num_positive), strict=True)
    ]
    per_image = (placement - area) * np.where(positive, share[1], share[0])
    influence = np.bincount(lesion, per_image, minlength=num_lesions).astype(np.float64)
    return PlacedArea(area, influence, (lesions[1], lesions[0]))


def delong_p(difference: float, influence: FloatArray) -> float | None:
    """Returns the two-sided p-value of a difference of areas, or of their means, from the difference of their
    influences.

    The result is None if the areas differ but no lesion has an influence: the normal approximation is undefined then.
    """
    error = float(np.sqrt(np.square(influence).sum()))
    if error < 1e-12:
        return 1.0 if abs(difference) < 1e-12 else None
    return float(2 * ndtr(-abs(difference) / error))
