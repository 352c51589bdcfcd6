"""Calibration metrics: how far predicted probabilities are from observed frequencies, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from lesion_exp.evaluation.limits import Limits
from lesion_exp.evaluation.predictions import FloatArray, IntArray
from lesion_exp.evaluation.weighted import LimitsOf, Weighted

CALIBRATION: Final = ("brier", "nll", "ece", "ece_equal_mass", "ece_classwise", "ece_of_calibrated")
NUM_BINS: Final = 15
"""The number of bins, as in Guo et al. 2017."""
SMALLEST_PROBABILITY: Final = float(np.finfo(np.float32).eps)
"""The log loss replaces smaller probabilities by this one, because float32 rounds small probabilities to 0."""
_DRAWS: Final = 1000
"""The number of simulated estimates in the test of a calibration error."""
_STEPS: Final = 20
"""Number of halvings of an interval of length 1, after which the ends are exact to a millionth."""


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions in bins of their confidence; arrays of length `NUM_BINS`, whose means are NaN in empty bins."""

    edges: FloatArray
    """float64 (NUM_BINS + 1,)."""
    counts: IntArray
    confidence: FloatArray
    """Mean highest probability."""
    accuracy: FloatArray
    """Share of correct predictions."""
    ece: float
    """Expected calibration error."""


def calibration_metrics(probs: FloatArray, true: IntArray, group: IntArray, num_groups: int) -> Weighted:
    """Returns the metrics of `CALIBRATION` as a function of the weights of groups of images.

    - `brier`: mean of sum_c (p_c - y_c)^2, in 0..2 (Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2);
    - `nll`: mean of -log p_y, in nats, p_y at least 1.2e-7;
    - `ece`: sum over 15 equal bins of the highest probability of |sum of (confidence - correct)| / N, in 0..1
      (Guo et al. 2017, arXiv:1706.04599);
    - `ece_equal_mass`: the same over 15 bins with equally many images (Nguyen and O'Connor 2015, arXiv:1508.05154).
      Equal confidences share a bin, and every draw uses the bins of the whole table;
    - `ece_classwise`: the mean over classes of the error of p_c against "is c" in 15 equal bins (Kull et al. 2019,
      arXiv:1910.12656);
    - `ece_of_calibrated`: the expected `ece` of a perfectly calibrated model with the same confidences and independent
      images: sum over bins of sqrt(2 / pi sum of confidence (1 - confidence)) / N. Only a larger `ece` is a sign of
      miscalibration (Broecker and Smith 2007, doi:10.1175/WAF993.1).

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    num_classes = probs.shape[1]
    hits = np.eye(num_classes)[true]
    true_probs = probs[np.arange(len(true)), true]
    brier = (probs**2).sum(axis=1) - 2 * true_probs + 1
    nll = log_losses(probs, true)
    confidence = probs.max(axis=1)
    gaps = confidence - (probs.argmax(axis=1) == true)
    binned = _Binned(
        [bin_of(confidence), _equal_mass_bin_of(confidence), *bin_of(probs).T],
        [gaps, gaps, *(probs - hits).T],
        group,
        num_groups,
    )
    sums = np.stack([np.bincount(group, values, minlength=num_groups) for values in (np.ones(len(true)), brier, nll)])
    spread = csr_array((confidence * (1 - confidence), (bin_of(confidence), group)), shape=(NUM_BINS, num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        total, brier_sum, nll_sum = sums @ weights
        width, mass, *classes = binned(weights)
        return {
            "brier": brier_sum / total,
            "nll": nll_sum / total,
            "ece": width / total,
            "ece_equal_mass": mass / total,
            "ece_classwise": np.mean(classes, axis=0) / total,
            "ece_of_calibrated": np.sqrt(2 / np.pi * (spread @ weights)).sum(axis=0) / total,
        }

    limits: dict[str, LimitsOf] = {
        "ece": lambda: calibration_error_limits(binned.of(0), sums[0]),
        "ece_equal_mass": lambda: calibration_error_limits(binned.of(1), sums[0]),
        "ece_classwise": lambda: calibration_error_limits(binned.of(2, 2 + num_classes), sums[0], num_classes),
    }
    return Weighted(at, limits)


def log_losses(probs: FloatArray, true: IntArray) -> FloatArray:
    """Returns -log p_y of each image in nats, float64 (N,), with p_y at least `SMALLEST_PROBABILITY`.

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
    """
    found: FloatArray = -np.log(np.clip(probs[np.arange(len(true)), true], SMALLEST_PROBABILITY, 1.0))
    return found


class _Binned:
    """For several binnings at once: the values are summed in each bin, and the absolute sums are added over bins."""

    def __init__(
        self, bins: Sequence[IntArray], values: Sequence[FloatArray], group: IntArray, num_groups: int
    ) -> None:
        self._num_binnings = len(bins)
        places = [place + NUM_BINS * number for number, place in enumerate(bins)]
        cells = (np.concatenate(places), np.tile(group, len(bins)))
        self._sums = csr_array((np.concatenate(values), cells), shape=(NUM_BINS * len(bins), num_groups))

    def of(self, first: int, end: int | None = None) -> csr_array:
        """Returns the sums in the bins of the binnings from `first` up to `end`, exclusive, float64 (bins, G).

        Without `end` it returns the sums of the binning `first` alone.
        """
        return self._sums[NUM_BINS * first : NUM_BINS * (first + 1 if end is None else end)]

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Returns the sum over bins of the absolute sums, float64 (binnings, D)."""
        sums = np.abs(self._sums @ weights).reshape(self._num_binnings, NUM_BINS, -1)
        return np.asarray(sums.sum(axis=1), dtype=np.float64)


def reliability_bins(probs: FloatArray, true: IntArray) -> ReliabilityBins:
    """Returns the predictions in bins of their highest probability.

    Args:
        probs: float64 (N, C).
        true: int (N,), positions of the true classes.
    """
    confidence = probs.max(axis=1)
    correct = (probs.argmax(axis=1) == true).astype(np.float64)
    place = bin_of(confidence)
    counts = np.bincount(place, minlength=NUM_BINS)
    sums = [np.bincount(place, values, minlength=NUM_BINS) for values in (confidence, correct)]
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (total / counts for total in sums)
    ece = float(np.abs(sums[0] - sums[1]).sum() / len(true))
    return ReliabilityBins(np.linspace(0, 1, NUM_BINS + 1), counts, mean_confidence, accuracy, ece)


def bin_of(confidence: FloatArray) -> IntArray:
    """Returns the bin of each confidence, int64 (N,); bin k contains the confidences in (k, k + 1] / NUM_BINS."""
    places = np.ceil(confidence * NUM_BINS).astype(np.int64) - 1
    return np.clip(places, 0, NUM_BINS - 1)


def _equal_mass_bin_of(confidence: FloatArray) -> IntArray:
    """Returns the bin of each confidence, int64 (N,). The bins have equally many images, up to equal confidences, which
    share a bin."""
    order = np.sort(confidence)
    edges = order[np.arange(1, NUM_BINS) * len(order) // NUM_BINS]
    return np.searchsorted(edges, confidence, side="right").astype(np.int64)


def calibration_error_limits(gaps: csr_array, images: FloatArray, divisor: float = 1.0) -> Limits:
    """Returns the 95% limits of a calibration error over bins, sum_b |sum_g gaps_bg| / (N divisor).

    Absolute values of noise do not cancel. The estimated error of a perfectly calibrated model therefore lies well
    above 0, and its bootstrap, whose draws add noise again, lies higher still (Broecker 2012,
    doi:10.1007/s00382-011-1191-1). So the interval is found by inverting a test. It contains each error t for which the
    estimate lies between the 2.5% and the 97.5% quantile of the estimates of a model whose error is t: |t d + e| summed
    over bins, where d is the direction of the observed gaps and e is normal with their covariance over lesions
    (Carpenter 1999, doi:10.1111/1467-9868.00169). The interval begins at 0 if a calibrated model can give the
    estimate. If the estimate lies outside the interval, because it is so much too large, the interval is extended to
    contain it.

    In simulations (`scripts/coverage.py`) 86 to 98% of the intervals contain the true error (bootstrap: 0% for a
    calibrated model).

    Args:
        gaps: float64 (B, G), the sum of (confidence - correct) over the images of each bin in each group.
        images: float64 (G,), the number of images of each group.
        divisor: the number of classes, for a mean over classes.
    """
    total = float(images.sum())
    seen = np.asarray(gaps.sum(axis=1), dtype=np.float64).ravel() / total
    value = float(np.abs(seen).sum())
    groups = max(int(np.count_nonzero(images)), 2)
    mean = csr_array(seen[:, None]) @ csr_array(images[None, :])
    residuals = (gaps - mean) / total
    covariance = (residuals @ residuals.T).toarray() * groups / (groups - 1)
    noise = _normal(covariance)
    direction = seen / value if value > 0 else np.zeros_like(seen)

    def end(quantile: float) -> float:
        """Returns the error for which `value` is this quantile of the estimates; 0 if it is below it for a calibrated
        model.
        """

        def seen_at(error: float) -> float:
            return float(np.quantile(np.abs(error * direction[:, None] + noise).sum(axis=0), quantile))

        if value == 0 or seen_at(0.0) >= value:
            return 0.0
        low, high = 0.0, divisor
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if seen_at(middle) < value else (low, middle)
        return high

    low, high = end(0.975), max(end(0.025), value)
    return Limits(value / divisor, min(low, value) / divisor, high / divisor)


def _normal(covariance: FloatArray) -> FloatArray:
    """Returns draws of a normal distribution with this covariance, float64 (B, D), from a fixed seed."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    drawn: FloatArray = root @ np.random.default_rng(0).normal(size=(len(values), _DRAWS))
    return drawn
