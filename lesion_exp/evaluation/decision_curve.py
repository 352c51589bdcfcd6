"""Net benefit: what acting on the predictions is worth at each threshold of concern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.confusion import Weighted
from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.predictions import FloatArray, IntArray
from lesion_exp.evaluation.target import scores_of

THRESHOLDS: Final = tuple(percent / 100 for percent in (1, 2, *range(3, 61, 3)))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefits by threshold; for comparison those of acting on everyone, of acting on no one it is 0."""

    target: str
    prevalence: float
    thresholds: tuple[float, ...]
    model: list[Estimate]
    everyone: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "target": self.target,
            "prevalence": self.prevalence,
            "thresholds": list(self.thresholds),
            "model": [found._asdict() for found in self.model],
            "everyone": self.everyone,
        }


def decision_curve(
    table: pd.DataFrame, target: str, draws: int = 2000, seed: int = 0, unit: Unit = "lesion"
) -> DecisionCurve:
    """The net benefit of acting on `target` (a class, or `malignant`) at the thresholds 1% to 60%, with intervals.

    Args:
        table: predictions table; what its probabilities are worth shows here, so calibrated ones belong here.
        target: see `targets`.
        draws: bootstrap draws.
        seed: their seed.
        unit: what is drawn, see `units_of`.
    """
    group, num_groups = units_of(table, unit)
    found = bootstrap(net_benefit(table, target, group, num_groups), num_groups, draws, seed)
    prevalence = float(scores_of(table, target)[1].mean())
    everyone = [prevalence - (1 - prevalence) * pt / (1 - pt) for pt in THRESHOLDS]
    return DecisionCurve(target, prevalence, THRESHOLDS, [found[f"{pt:g}"] for pt in THRESHOLDS], everyone)


def net_benefit(table: pd.DataFrame, target: str, group: IntArray, num_groups: int) -> Weighted:
    """TP / n - FP / n * pt / (1 - pt) at each threshold pt of `THRESHOLDS`, acting where p >= pt, by the name `0.03`.

    In units of true positives an image: a biopsy for nothing weighs pt / (1 - pt) of a cancer found (Vickers and
    Elkin 2006, doi:10.1177/0272989X06295361). A function of the weights of groups of images.
    """
    scores, positive = scores_of(table, target)
    gains = np.empty((len(THRESHOLDS) + 1, num_groups))
    for number, pt in enumerate(THRESHOLDS):
        gain = np.where(scores >= pt, np.where(positive, 1.0, -pt / (1 - pt)), 0.0)
        gains[number] = np.bincount(group, gain, minlength=num_groups)
    gains[-1] = np.bincount(group, minlength=num_groups)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        *sums, total = gains @ weights
        return {f"{pt:g}": values / total for pt, values in zip(THRESHOLDS, sums, strict=True)}

    return at
