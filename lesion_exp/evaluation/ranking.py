"""What depends on the order of the scores alone: area under the ROC curve and average precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from lesion_exp.evaluation.confusion import Weighted
from lesion_exp.evaluation.predictions import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]


def auroc(scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int) -> Weighted:
    """Area under the ROC curve as a function of the weights of groups of images, under the key `auroc`.

    The probability that a positive image scores above a negative one, ties counting half (Mann-Whitney):
    sum_i sum_j w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (W+ W-), i positive, j negative.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    if 2 * np.count_nonzero(positive) > len(positive):  # steps are counted at the rarer kind; its area is the rest
        mirrored = auroc(scores, ~positive, group, num_groups)
        return lambda weights: {"auroc": 1 - mirrored(weights)["auroc"]}
    at_steps = _Steps(scores, positive, group, num_groups)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        hits, below, tied = at_steps(weights)
        num_pairs = hits.sum(axis=0) * at_steps.num_negative(weights)
        ordered = np.einsum("kd,kd->d", hits, below + tied / 2)
        return {"auroc": np.divide(ordered, num_pairs, out=np.full(num_pairs.shape, np.nan), where=num_pairs > 0)}

    return at


def average_precision(scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int) -> Weighted:
    """Average precision as a function of the weights of groups of images, under the key `average_precision`.

    sum_k (R_k - R_{k-1}) P_k over the distinct scores in falling order, P_k and R_k being precision and recall of
    "positive from score k on"; scikit-learn's definition, without interpolation. Arguments as in `auroc`.
    """
    at_steps = _Steps(scores, positive, group, num_groups)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        hits, below, _ = at_steps(weights)
        num_true = hits.sum(axis=0)
        hits_from = hits[::-1].cumsum(axis=0)[::-1]
        num_from = hits_from + at_steps.num_negative(weights) - below
        precision = np.divide(hits_from, num_from, out=np.zeros_like(num_from), where=num_from > 0)
        area = np.einsum("kd,kd->d", hits, precision)
        return {"average_precision": np.divide(area, num_true, out=np.full(num_true.shape, np.nan), where=num_true > 0)}

    return at


class _Steps:
    """Weighted counts at the K distinct scores of the positives: what an area under a step curve needs.

    Negatives are summed in the gaps between these scores, so that the work grows with the positives.
    """

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

    def __call__(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Positives at each step, negatives below it, negatives at it; each float64 (K, D)."""
        misses = self._misses @ weights
        return self._hits @ weights, misses.cumsum(axis=0)[0:-1:2], misses[1::2]

    def num_negative(self, weights: FloatArray) -> FloatArray:
        """Weighted number of negatives in each draw, float64 (D,)."""
        return np.asarray(self._negatives @ weights, dtype=np.float64)


def _summing(row: IntArray, group: IntArray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(row)), (row, group)), shape=shape)
