"""Ranking metrics of scores: ROC and precision-recall curves, areas under them and points on them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from lesion_exp.evaluation.confusion import nan_mean
from lesion_exp.evaluation.delong import placed_area
from lesion_exp.evaluation.limits import Limits, area_limits
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray
from lesion_exp.evaluation.weighted import NOTHING, Bounds, Weighted

SENSITIVITY_AT: Final = {f"sensitivity_at_{share}_specificity": share / 100 for share in (90, 95)}
SPECIFICITY_AT: Final = {f"specificity_at_{share}_sensitivity": share / 100 for share in (90, 95)}
AUC_SENS_80: Final = "auc_sens_80"
PAUC_2024: Final = "pauc_2024"
RANKING: Final = ("auroc", "average_precision", *SENSITIVITY_AT, *SPECIFICITY_AT, AUC_SENS_80, PAUC_2024)
_LEAST_SENSITIVITY: Final = 0.8
"""The sensitivity from which both partial areas of the ISIC challenges count."""
_ROUNDING: Final = 1e-9


def ranking_metrics(
    scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int, names: Collection[str] = RANKING
) -> Weighted:
    """Returns the metrics of `RANKING`, or those in `names`, as a function of the weights of groups of images.

    - `auroc`: the probability that a positive image scores above a negative one, ties counting half (Mann-Whitney);
    - `average_precision`: sum_k (R_k - R_{k-1}) P_k over the distinct scores in falling order, where P_k and R_k are
      the precision and the recall at the threshold k; scikit-learn's definition, without interpolation;
    - `sensitivity_at_90_specificity` (and 95): the highest sensitivity of a threshold with at least that specificity,
      0 if there is none; `specificity_at_90_sensitivity` the reverse. The threshold is the best one for the evaluated
      images; for thresholds from the validation part see `posthoc.operating_point_metrics`;
    - `auc_sens_80`, of ISIC 2018 and 2019: the area under the ROC curve from a sensitivity of 0.8 on, down to 0,
      in 0..1 (isic-challenge-scoring, `auc_above_sensitivity`);
    - `pauc_2024`, the score of ISIC 2024: the area under the ROC curve from a sensitivity of 0.8 on, down to
      0.8, in 0..0.2.

    The ROC curve is a straight line between the ends of tied scores, as scikit-learn's is. Without positives or without
    negatives all metrics are NaN, except the average precision, which only needs positives.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        names: the names of the metrics.
    """
    steps = _Steps(scores, positive, group, num_groups)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        curve = steps.curve(weights)
        values: dict[str, FloatArray] = {}
        if {"auroc", AUC_SENS_80, PAUC_2024} & set(names):
            values |= curve.areas(partial=bool({AUC_SENS_80, PAUC_2024} & set(names)))
        if "average_precision" in names:
            values["average_precision"] = curve.average_precision()
        values |= {name: curve.sensitivity_at(share) for name, share in SENSITIVITY_AT.items() if name in names}
        values |= {name: curve.specificity_at(share) for name, share in SPECIFICITY_AT.items() if name in names}
        return {name: values[name] for name in names}

    positives, negatives = (len(np.unique(group[kind])) for kind in (positive, ~positive))
    lesions = dict.fromkeys(names, min(positives, negatives)) | {"average_precision": positives}
    highest = {PAUC_2024: 1 - _LEAST_SENSITIVITY}
    bounds = {name: Bounds(lesions[name], highest.get(name, 1.0)) for name in names if name != "auroc"}

    def area() -> Limits:
        placed = placed_area(scores, positive, group, num_groups)
        if placed is not None:
            return area_limits(placed)
        alone = at(np.ones((num_groups, 1)))["auroc"]  # the variance is unknown with fewer than two lesions of a kind
        return Limits(float(alone[0]), 0.0, 1.0, np.zeros(num_groups))

    limits = {"auroc": area} if "auroc" in names else {}
    return Weighted(at, limits, bounds, None if bounds else NOTHING)


def ranking_of_classes(probs: FloatArray, true: IntArray, group: IntArray, num_groups: int) -> list[Weighted]:
    """Returns all ranking metrics of each class against the rest, which remember their last result.

    Functions that call them with the same array of weights share one computation.

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    classes = range(probs.shape[1])
    return [_remembered(ranking_metrics(probs[:, c], true == c, group, num_groups)) for c in classes]


def mean_area(probs: FloatArray, true: IntArray) -> float:
    """Returns the mean AUROC over the classes for which it is defined: those of some but not all images. NaN if there
    are none.

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
    """
    images, ones = np.arange(len(true)), np.ones((len(true), 1))
    classes = range(probs.shape[1])
    areas = [ranking_metrics(probs[:, c], true == c, images, len(true), ("auroc",))(ones)["auroc"] for c in classes]
    return float(nan_mean(np.stack(areas))[0])


def _remembered(metrics: Weighted) -> Weighted:
    """Returns `metrics`, which are computed once for consecutive calls with the same array of weights."""
    last: list[tuple[FloatArray, dict[str, FloatArray]]] = []

    def again(weights: FloatArray) -> dict[str, FloatArray]:
        if not last or last[0][0] is not weights:
            last[:] = [(weights, metrics(weights))]
        return last[0][1]

    return Weighted(again, metrics.limits, metrics.bounds)  # without less for the draws: all callers share one result


@dataclass(frozen=True)
class _Curve:
    """The ROC curve in each of D draws, from numbers of images at K thresholds in rising order, float64 (K, D) each."""

    hits: FloatArray
    """Number of positives at the threshold."""
    below: FloatArray
    """Number of negatives below the threshold."""
    tied: FloatArray
    """Number of negatives at the threshold."""
    hits_from: FloatArray
    """Number of positives at or above the threshold."""
    num_negative: FloatArray
    """The number of negatives in each draw, float64 (D,)."""

    @property
    def num_positive(self) -> FloatArray:
        """The number of positives in each draw, float64 (D,)."""
        if not len(self.hits):
            return np.zeros_like(self.num_negative)
        first: FloatArray = self.hits_from[0]
        return first

    def areas(self, partial: bool) -> dict[str, FloatArray]:
        """Returns `auroc`, and if `partial` also the two areas from a sensitivity of 0.8 on, float64 (D,) each."""
        num_pairs = self.num_positive * self.num_negative
        if not partial:
            ordered = np.einsum("kd,kd->d", self.hits, self.below) + np.einsum("kd,kd->d", self.hits, self.tied) / 2
            return {"auroc": _ratio(ordered, num_pairs)}
        ordered_to = (self.hits * (self.below + self.tied / 2)).cumsum(axis=0)
        least = _LEAST_SENSITIVITY * self.num_positive
        place = self._last_reaching(_LEAST_SENSITIVITY)
        if place is None:
            missing = np.full(num_pairs.shape, np.nan)
            return {"auroc": missing, AUC_SENS_80: missing, PAUC_2024: missing}
        hits, below, tied, hits_from = (_at(rows, place) for rows in (self.hits, self.below, self.tied, self.hits_from))
        # this threshold's positives above a sensitivity of 0.8, and their share of this straight piece of the curve
        above = np.clip(hits_from - least, 0.0, None)
        share = np.divide(above, hits, out=np.zeros_like(above), where=hits > 0)
        before = _at(ordered_to, place) - hits * (below + tied / 2)
        upper = before + above * (below + share * tied / 2)
        right = below + share * tied  # negatives to the right of the point at which the curve reaches 0.8
        return {
            "auroc": _ratio(ordered_to[-1], num_pairs),
            PAUC_2024: _ratio(upper, num_pairs),
            AUC_SENS_80: _ratio(upper + least * right, num_pairs),
        }

    def average_precision(self) -> FloatArray:
        """Returns the average precision, float64 (D,)."""
        num_from = self.hits_from + self.num_negative - self.below
        precision = np.divide(self.hits_from, num_from, out=np.zeros_like(num_from), where=num_from > 0)
        return _ratio(np.einsum("kd,kd->d", self.hits, precision), self.num_positive)

    def sensitivity_at(self, specificity: float) -> FloatArray:
        """Returns the highest sensitivity with at least that specificity, float64 (D,)."""
        needed = specificity * self.num_negative - _ROUNDING
        place = np.count_nonzero(self.below < needed, axis=0)
        padded = np.concatenate([self.hits_from, np.zeros((1, self.hits.shape[1]))])
        found = _ratio(_at(padded, place), self.num_positive)
        return np.where(self.num_negative > 0, found, np.nan)

    def specificity_at(self, sensitivity: float) -> FloatArray:
        """Returns the highest specificity with at least that sensitivity, float64 (D,)."""
        place = self._last_reaching(sensitivity)
        if place is None:
            return np.full(self.num_negative.shape, np.nan)
        found = _ratio(_at(self.below, place), self.num_negative)
        return np.where(self.num_positive > 0, found, np.nan)

    def _last_reaching(self, sensitivity: float) -> IntArray | None:
        """Returns the position of the highest threshold with at least that sensitivity, int64 (D,); None without
        positives.
        """
        if not len(self.hits):
            return None
        reached = np.count_nonzero(self.hits_from >= sensitivity * self.num_positive - _ROUNDING, axis=0)
        return np.asarray(reached - 1, dtype=np.int64)


class _Steps:
    """Numbers of positives at, and of negatives between and at, the K distinct scores of the positives."""

    def __init__(self, scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int) -> None:
        steps = np.unique(scores[positive])
        place = np.searchsorted(steps, scores)
        negative = ~positive
        tied = np.isin(scores, steps)
        # gap 2k: negatives strictly between steps k-1 and k; gap 2k + 1: those at step k
        gap = (2 * place + tied)[negative]
        self._hits = _summing(place[positive], group[positive], (len(steps), num_groups))
        self._misses = _summing(gap, group[negative], (2 * len(steps) + 1, num_groups))
        self._negatives = np.bincount(group[negative], minlength=num_groups).astype(np.float64)

    def curve(self, weights: FloatArray) -> _Curve:
        """Returns the curve in each draw, from the weights of the groups, float64 (G, D)."""
        misses, hits = self._misses @ weights, self._hits @ weights
        tied = misses[1::2].copy()
        below = misses.cumsum(axis=0, out=misses)[0:-1:2]
        hits_from = hits[::-1].cumsum(axis=0)[::-1]
        return _Curve(hits, below, tied, hits_from, np.asarray(self._negatives @ weights, dtype=np.float64))


def _summing(row: IntArray, group: IntArray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(row)), (row, group)), shape=shape)


def _at(rows: FloatArray, place: IntArray) -> FloatArray:
    """Returns the value in row `place` of each column, (K, D) -> (D,)."""
    taken: FloatArray = np.take_along_axis(rows, place[None, :], axis=0)[0]
    return taken


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    ratios: FloatArray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratios


def roc_points(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Returns the ROC curve: 1 - specificity and sensitivity, both rising from 0 to 1.

    The area under the points, joined by straight lines, is the AUROC.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
    """
    from sklearn.metrics import roc_curve  # only pictures need it, and importing it takes long

    false_positive, true_positive, _ = roc_curve(positive, scores)
    return false_positive, true_positive


def precision_recall_points(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Returns the precision-recall curve: recall, rising from 0, and precision.

    The area under the points, joined by straight lines, is the average precision. That multiplies each rise of the
    recall by the precision at its end, so the curve is a step function with the steps to the left of their points.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    return np.repeat(recall[::-1], 2)[:-1], np.repeat(precision[::-1], 2)[1:]
