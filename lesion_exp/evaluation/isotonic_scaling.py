"""Isotonic calibration: for each class the rising steps that fit its frequencies best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.isotonic import IsotonicRegression

from lesion_exp.evaluation.predictions import FloatArray, IntArray


@dataclass(frozen=True)
class IsotonicScaling:
    """Each class's probability through a rising curve of its own, then divided by their sum (Zadrozny and Elkan 2002,
    doi:10.1145/775047.775151).

    It assumes no shape, and needs many images a class for it; an image to which all curves give 0 keeps what it had.
    """

    method: ClassVar[str] = "isotonic"
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """For each class the corners of its curve: probabilities before, rising, and after."""

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """The curves of the smallest squared error against "is of this class".

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        curves = []
        for position in range(probs.shape[1]):
            fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
                probs[:, position], (true == position).astype(np.float64)
            )
            curves.append((tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_))))
        return cls(tuple(curves))

    def apply(self, probs: FloatArray) -> FloatArray:
        """The calibrated probabilities, float64 (N, C)."""
        raised = np.stack([np.interp(probs[:, c], *corners) for c, corners in enumerate(self.curves)], axis=1)
        total = raised.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(raised, total, out=np.array(probs, dtype=np.float64), where=total > 0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"curves": [{"before": list(before), "after": list(after)} for before, after in self.curves]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(tuple((tuple(curve["before"]), tuple(curve["after"])) for curve in values["curves"]))
