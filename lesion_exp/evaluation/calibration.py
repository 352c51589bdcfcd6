"""How far probabilities can be taken at their word: Brier score, log loss, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from lesion_exp.evaluation.confusion import Weighted
from lesion_exp.evaluation.predictions import FloatArray, IntArray

NUM_BINS: Final = 15
"""Bins of equal width, as in Guo et al. 2017."""
SMALLEST_PROBABILITY: Final = float(np.finfo(np.float32).eps)
"""Probabilities below this count as this in the log loss: a table holds float32, which rounds small ones to 0."""


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions by their confidence; arrays of length `NUM_BINS`, means NaN in empty bins."""

    edges: FloatArray
    """float64 (NUM_BINS + 1,)."""
    counts: IntArray
    confidence: FloatArray
    """Mean highest probability."""
    accuracy: FloatArray
    """Share of correct predictions."""
    ece: float
    """expected calibration error."""


def calibration_metrics(probs: FloatArray, true: IntArray, group: IntArray, num_groups: int) -> Weighted:
    """`brier`, `nll` and `ece` as a function of the weights of groups of images.

    - `brier`: mean of sum_c (p_c - y_c)^2, in 0..2 (Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2);
    - `nll`: mean of -log p_y, in nats, p_y at least 1.2e-7;
    - `ece`: sum over 15 equal bins of the highest probability of |sum of (confidence - correct)| / N, in 0..1
      (Guo et al. 2017, arXiv:1706.04599).

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    true_probs = probs[np.arange(len(true)), true]
    brier = (probs**2).sum(axis=1) - 2 * true_probs + 1
    nll = -np.log(np.clip(true_probs, SMALLEST_PROBABILITY, 1.0))
    confidence = probs.max(axis=1)
    gaps = confidence - (probs.argmax(axis=1) == true)
    binned = csr_array((gaps, (_bin_of(confidence), group)), shape=(NUM_BINS, num_groups))
    sums = np.stack([np.bincount(group, values, minlength=num_groups) for values in (np.ones(len(true)), brier, nll)])

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        total, brier_sum, nll_sum = sums @ weights
        ece_sum = np.abs(binned @ weights).sum(axis=0)
        return {"brier": brier_sum / total, "nll": nll_sum / total, "ece": ece_sum / total}

    return at


def reliability_bins(probs: FloatArray, true: IntArray) -> ReliabilityBins:
    """The predictions by their highest probability; `probs` float64 (N, C), `true` int (N,)."""
    confidence = probs.max(axis=1)
    correct = (probs.argmax(axis=1) == true).astype(np.float64)
    place = _bin_of(confidence)
    counts = np.bincount(place, minlength=NUM_BINS)
    sums = [np.bincount(place, values, minlength=NUM_BINS) for values in (confidence, correct)]
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (total / counts for total in sums)
    ece = float(np.abs(sums[0] - sums[1]).sum() / len(true))
    return ReliabilityBins(np.linspace(0, 1, NUM_BINS + 1), counts, mean_confidence, accuracy, ece)


def _bin_of(confidence: FloatArray) -> IntArray:
    """Bin k holds the confidences in (k, k + 1] / NUM_BINS."""
    places = np.ceil(confidence * NUM_BINS).astype(np.int64) - 1
    return np.clip(places, 0, NUM_BINS - 1)
