"""Vector scaling: a factor and a shift for the log-probability of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from lesion_exp.evaluation.predictions import FloatArray, IntArray
from lesion_exp.evaluation.temperature_scaling import log_probs

_PRIOR_WEIGHT: Final = 1.0
"""Of the pull towards factor 1 and shift 0: it counts as one image, and only matters for classes of a few."""


@dataclass(frozen=True)
class VectorScaling:
    """softmax(w * log p + b), w and b a number a class: vector scaling (Guo et al. 2017, arXiv:1706.04599) of log p in
    place of the logits, which a table does not hold; as such the diagonal case of Kull et al. 2019, arXiv:1910.12656.

    Unlike a temperature it moves probability between classes, as after training on balanced batches it must, and so it
    changes predictions.
    """

    method: ClassVar[str] = "vector"
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """The numbers of the smallest sum of log losses and (|w - 1|^2 + |b|^2) / 2, from w = 1 and b = 0 on.

        The second term keeps the numbers of a class finite that the validation part holds little or nothing of.

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        size = probs.shape[1]
        logits = log_probs(probs)
        hits = np.eye(size)[true]

        def loss(numbers: FloatArray) -> tuple[float, FloatArray]:
            scale, bias = numbers[:size], numbers[size:]
            scaled = log_softmax(logits * scale + bias, axis=1)
            pull = np.concatenate([scale - 1, bias])
            errors = np.exp(scaled) - hits
            slope = np.concatenate([(errors * logits).sum(axis=0), errors.sum(axis=0)]) + _PRIOR_WEIGHT * pull
            return -float(scaled[np.arange(len(true)), true].sum()) + _PRIOR_WEIGHT * float(pull @ pull) / 2, slope

        found = minimize(loss, np.r_[np.ones(size), np.zeros(size)], jac=True, method="L-BFGS-B").x
        return cls(tuple(map(float, found[:size])), tuple(map(float, found[size:])))

    def apply(self, probs: FloatArray) -> FloatArray:
        """The calibrated probabilities, float64 (N, C)."""
        return np.asarray(softmax(log_probs(probs) * self.scale + self.bias, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"scale": list(self.scale), "bias": list(self.bias)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(tuple(map(float, values["scale"])), tuple(map(float, values["bias"])))
