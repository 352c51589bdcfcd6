"""Operating points, and all models that are fitted on the predictions of the validation part after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from lesion_exp.choices import RULES
from lesion_exp.errors import DataError
from lesion_exp.evaluation.calibrator import METHODS, Calibrator, fit_calibrator
from lesion_exp.evaluation.conformal import ConformalSets, fit_conformal
from lesion_exp.evaluation.limits import Limits, proportion_limits
from lesion_exp.evaluation.malignant_view import scores_of, targets
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray, classes_of, known_rows
from lesion_exp.evaluation.weighted import NOTHING, LimitsOf, Weighted

FAMILIES: Final = ("sensitivity", "specificity", "ppv", "npv")
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold: an image is positive if the probability of `target` is at least `threshold`."""

    target: str
    rule: str
    threshold: float
    sensitivity: float
    """On the validation part."""
    specificity: float
    """On the validation part."""

    @property
    def name(self) -> str:
        """The name in metrics, such as `malignant/sensitivity_90`."""
        return f"{self.target}/{self.rule}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return asdict(self)


def fit_operating_points(table: pd.DataFrame) -> list[OperatingPoint]:
    """Fits an operating point for each target and rule to the predictions of a validation part.

    - `sensitivity_90` (and 95): the highest threshold with a sensitivity of at least 0.9;
    - `specificity_90` (and 95): the lowest threshold with a specificity of at least 0.9;
    - `youden`: the threshold with the largest sum of both (Youden 1950), the highest of equal ones.

    A target without positive or without negative images has no points. A rule on the specificity has no point if no
    positive image reaches the threshold.
    """
    points = []
    for target in targets(classes_of(table)):
        scores, positive = scores_of(table, target)
        if positive.any() and not positive.all():
            points += _points_of(target, scores, positive)
    return points


def operating_point_metrics(
    table: pd.DataFrame, points: Sequence[OperatingPoint], group: IntArray, num_groups: int
) -> Weighted:
    """Returns the metrics of each operating point on `table` as a function of the weights of groups of images.

    The names are `malignant/sensitivity_90/sensitivity`, and so on with `specificity`, `ppv` and `npv`. A metric is NaN
    if its denominator is 0.
    """
    seen = {target: scores_of(table, target) for target in dict.fromkeys(point.target for point in points)}
    cells = [
        4 * number + 2 * seen[point.target][1].astype(np.int64) + (seen[point.target][0] >= point.threshold)
        for number, point in enumerate(points)
    ]
    rows = np.concatenate([np.empty(0, np.int64), *cells])
    columns = np.tile(group, len(points))
    counting = csr_array((np.ones(len(rows)), (rows, columns)), shape=(4 * max(len(points), 1), num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {}
        counts = counting @ weights
        for number, point in enumerate(points):
            tn, fp, fn, tp = counts[4 * number : 4 * number + 4]
            parts = ((tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn))
            for family, (part, whole) in zip(FAMILIES, parts, strict=True):
                known = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
                values[f"{point.name}/{family}"] = known
        return values

    def limits(number: int, family: str) -> Limits:
        tn, fp, fn, tp = counting[4 * number : 4 * number + 4].toarray()
        whole = {"sensitivity": tp + fn, "specificity": tn + fp, "ppv": tp + fp, "npv": tn + fn}[family]
        return proportion_limits(tp if family in {"sensitivity", "ppv"} else tn, whole)

    found: dict[str, LimitsOf] = {
        f"{point.name}/{family}": partial(limits, number, family)
        for number, point in enumerate(points)
        for family in FAMILIES
    }
    return Weighted(at, found, without_limits=NOTHING)


def _points_of(target: str, scores: FloatArray, positive: BoolArray) -> list[OperatingPoint]:
    steps = np.unique(scores[positive])  # a threshold between two of them has the same sensitivity and less specificity
    cases, others = np.sort(scores[positive]), np.sort(scores[~positive])
    sensitivity = 1 - np.searchsorted(cases, steps, side="left") / len(cases)
    specificity = np.searchsorted(others, steps, side="left") / len(others)
    places: dict[str, int] = {}
    for share in (90, 95):
        places[f"sensitivity_{share}"] = int(np.flatnonzero(sensitivity >= share / 100 - _ROUNDING)[-1])
        reached = np.flatnonzero(specificity >= share / 100 - _ROUNDING)
        if len(reached):
            places[f"specificity_{share}"] = int(reached[0])
    index = sensitivity + specificity
    places["youden"] = int(np.flatnonzero(index >= index.max() - _ROUNDING)[-1])
    return [
        OperatingPoint(target, rule, float(steps[k]), float(sensitivity[k]), float(specificity[k]))
        for rule, k in ((rule, places[rule]) for rule in RULES if rule in places)
    ]


@dataclass(frozen=True)
class PosthocModels:
    """The calibrations and conformal sets of a model, by method, and its operating points."""

    calibrators: Mapping[str, Calibrator]
    conformal: Mapping[str, ConformalSets]
    points: list[OperatingPoint]

    def files(self) -> dict[str, Any]:
        """Returns the content of the JSON files that a run stores, by path."""
        return {
            **{calibrator_path(method): found.to_dict() for method, found in self.calibrators.items()},
            **{f"conformal/{method}.json": found.to_dict() for method, found in self.conformal.items()},
            "operating_points/points.json": [point.to_dict() for point in self.points],
        }


def fit_on_validation(table: pd.DataFrame, alpha: float = 0.1) -> PosthocModels:
    """Fits every calibration, conformal method and operating point to the predictions of a validation part.

    Args:
        table: predictions table of the validation part. Images of unknown classes do not count.
        alpha: the share of conformal sets that may lack the true class, between 0 and 1.

    Raises:
        ConfigError: `alpha` is out of range.
        DataError: no image is of a known class.
    """
    table = known_rows(table).reset_index(drop=True)
    if table.empty:
        raise DataError(
            "expected validation images of the classes that are predicted, got images of other classes alone; leave "
            "the validation part out, or predict its classes"
        )
    return PosthocModels(
        {method: fit_calibrator(method, table) for method in METHODS},
        {method: fit_conformal(table, method, alpha) for method in ConformalSets.METHODS},
        fit_operating_points(table),
    )


def calibrator_path(method: str) -> str:
    """Returns the path at which a run stores its calibration `method`."""
    return f"calibration/{method}.json"
