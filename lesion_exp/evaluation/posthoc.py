"""Everything that is fitted on the validation part, so that nothing is on the test part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lesion_exp.evaluation.calibrator import METHODS, Calibrator, fit_calibrator
from lesion_exp.evaluation.conformal import ConformalSets, fit_conformal
from lesion_exp.evaluation.operating_points import OperatingPoint, fit_operating_points


@dataclass(frozen=True)
class PosthocModels:
    """Calibrations, conformal sets and operating points of one model, by their names."""

    calibrators: Mapping[str, Calibrator]
    conformal: Mapping[str, ConformalSets]
    points: list[OperatingPoint]

    def files(self) -> dict[str, Any]:
        """What a run keeps of it: the plain content of each JSON file by its path."""
        return {
            **{calibrator_path(method): found.to_dict() for method, found in self.calibrators.items()},
            **{f"conformal/{method}.json": found.to_dict() for method, found in self.conformal.items()},
            "operating_points/points.json": [point.to_dict() for point in self.points],
        }


def fit_on_validation(table: pd.DataFrame, alpha: float = 0.1) -> PosthocModels:
    """What the predictions of a validation part say about others; `alpha` is the conformal sets' share of misses."""
    return PosthocModels(
        {method: fit_calibrator(method, table) for method in METHODS},
        {method: fit_conformal(table, method, alpha) for method in ConformalSets.METHODS},
        fit_operating_points(table),
    )


def calibrator_path(method: str) -> str:
    """Where a run keeps its calibration `method`."""
    return f"calibration/{method}.json"
