"""Decision curve analysis: the net benefit of acting on the predictions, by threshold probability."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.limits import Limits, combined_limits, proportion_limits
from lesion_exp.evaluation.malignant_view import scores_of
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray
from lesion_exp.evaluation.weighted import Weighted

THRESHOLDS: Final = tuple(percent / 100 for percent in (1, 2, *range(3, 61, 3)))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefits by threshold probability, of acting on the model and of acting on everyone; that of acting on no one
    is 0."""

    target: str
    prevalence: float
    thresholds: tuple[float, ...]
    model: list[Estimate]
    everyone: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
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
    """Returns the net benefit of acting on `target` at the thresholds from 1% to 60%, with intervals.

    Args:
        table: predictions table, with calibrated probabilities where there are any: the net benefit depends on their
            values, not only on their order.
        target: a class, or `malignant` (see `targets`).
        draws: number of bootstrap draws.
        seed: seed of the draws.
        unit: the unit of resampling, see `units_of`.
    """
    group, num_groups = units_of(table, unit)
    found = bootstrap(net_benefit(table, target, group, num_groups), num_groups, draws, seed)
    prevalence = float(scores_of(table, target)[1].mean())
    everyone = [prevalence - (1 - prevalence) * pt / (1 - pt) for pt in THRESHOLDS]
    return DecisionCurve(target, prevalence, THRESHOLDS, [found[f"{pt:g}"] for pt in THRESHOLDS], everyone)


def net_benefit(table: pd.DataFrame, target: str, group: IntArray, num_groups: int) -> Weighted:
    """Returns the net benefit at each threshold as a function of the weights of groups of images.

    The net benefit at the threshold pt is TP / n - FP / n * pt / (1 - pt), where images with p >= pt are positive. Its
    unit is true positives per image: an unnecessary biopsy has the weight pt / (1 - pt) of a detected cancer (Vickers
    and Elkin 2006, doi:10.1177/0272989X06295361). The names are the thresholds, such as `0.03`.
    """
    scores, positive = scores_of(table, target)
    images = np.bincount(group, minlength=num_groups).astype(np.float64)

    def acted_on(pt: float, kind: BoolArray) -> FloatArray:
        """Returns the number of images of a kind in each group whose probability reaches the threshold."""
        return np.bincount(group[kind & (scores >= pt)], minlength=num_groups).astype(np.float64)

    gains = np.stack([acted_on(pt, positive) - pt / (1 - pt) * acted_on(pt, ~positive) for pt in THRESHOLDS])

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        total = images @ weights
        return {f"{pt:g}": values / total for pt, values in zip(THRESHOLDS, gains @ weights, strict=True)}

    def limits(pt: float) -> Limits:
        shares = [proportion_limits(acted_on(pt, kind), images) for kind in (positive, ~positive)]
        return combined_limits([1.0, -pt / (1 - pt)], shares)

    return Weighted(at, {f"{pt:g}": partial(limits, pt) for pt in THRESHOLDS})
