"""Temperature scaling: one number that makes every prediction more or less certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from lesion_exp.evaluation.predictions import FloatArray, IntArray

SMALLEST: Final = float(np.finfo(np.float32).tiny)
"""Probabilities below this count as this before a logarithm: a table's float32 holds nothing smaller exactly."""
_LOG_RANGE: Final = (np.log(0.02), np.log(50.0))


@dataclass(frozen=True)
class TemperatureScaling:
    """softmax(z / T); with T > 1 less certain than the network (Guo et al. 2017, arXiv:1706.04599).

    The logits z are taken as log p, from which they differ by a constant in each image, which a softmax does not see.
    The order of the classes, and so the prediction, stays.
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """The temperature of the smallest log loss, between 0.02 and 50.

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        logits = log_probs(probs)

        def loss(log_temperature: float) -> float:
            scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
            return -float(scaled[np.arange(len(true)), true].mean())

        found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(found.x)))

    def apply(self, probs: FloatArray) -> FloatArray:
        """The calibrated probabilities, float64 (N, C)."""
        return np.asarray(softmax(log_probs(probs) / self.temperature, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"temperature": self.temperature}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(float(values["temperature"]))


def log_probs(probs: FloatArray) -> FloatArray:
    """log p, float64 (N, C), finite also for 0."""
    return np.asarray(np.log(np.clip(probs, SMALLEST, 1.0)), dtype=np.float64)
