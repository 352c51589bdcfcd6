"""A calibration fitted on the validation part: saved with the run as JSON, applied to any predictions table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, check_choice
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.isotonic_scaling import IsotonicScaling
from lesion_exp.evaluation.predictions import PREFIX, FloatArray, classes_of, probabilities, true_classes
from lesion_exp.evaluation.temperature_scaling import TemperatureScaling
from lesion_exp.evaluation.vector_scaling import VectorScaling

Scaling = TemperatureScaling | VectorScaling | IsotonicScaling
METHODS: Final[dict[str, type[Scaling]]] = {
    kind.method: kind for kind in (TemperatureScaling, VectorScaling, IsotonicScaling)
}
DEFAULT_CALIBRATION: Final = "none"
"""Of every verb that hands out probabilities (predict, serve, export, the MLflow model): the network's own ones, of
which the argmax is judged in `test/...`; calibrated ones are given where they are asked for."""


@dataclass(frozen=True)
class Calibrator:
    """A scaling of the probabilities of `classes`, and how much it was fitted on."""

    scaling: Scaling
    classes: tuple[str, ...]
    images: int
    lesions: int

    def apply(self, probs: FloatArray) -> FloatArray:
        """The calibrated probabilities, float64 (N, C), of probabilities in the order of `classes`."""
        assert probs.shape[1] == len(self.classes), "the probabilities are those of other classes"
        return self.scaling.apply(np.asarray(probs, dtype=np.float64))

    def calibrate(self, table: pd.DataFrame) -> pd.DataFrame:
        """`table` with calibrated probabilities, and the predictions that follow from them.

        Raises:
            DataError: the table is of other classes.
        """
        if classes_of(table) != self.classes:
            raise DataError(
                f"expected predictions of the classes {', '.join(self.classes)}, on which the calibration was fitted, "
                f"got {', '.join(classes_of(table))}; use the calibration of the run that made them"
            )
        return with_probabilities(table, self.apply(probabilities(table)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "method": self.scaling.method,
            "classes": list(self.classes),
            "fitted_on": {"part": "val", "images": self.images, "lesions": self.lesions},
            **self.scaling.to_dict(),
        }


def fit_calibrator(method: str, table: pd.DataFrame) -> Calibrator:
    """The calibration `method` (temperature, vector or isotonic) fitted on the predictions of a validation part.

    Raises:
        ConfigError: the method is unknown.
    """
    check_choice("calibration", method, METHODS)
    scaling = METHODS[method].fit(probabilities(table), true_classes(table))
    return Calibrator(scaling, classes_of(table), len(table), lesion_of(table)[1])


def read_calibrator(content: dict[str, Any]) -> Calibrator:
    """What `Calibrator.to_dict` gave.

    Raises:
        ConfigError: the method is unknown.
        DataError: something is missing in it.
    """
    try:
        method = content["method"]
        fitted_on = content["fitted_on"]
        check_choice("calibration", method, METHODS)
        scaling = METHODS[method].from_dict(content)
        return Calibrator(scaling, tuple(content["classes"]), int(fitted_on["images"]), int(fitted_on["lesions"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"expected a calibration as a run saves it (calibration/temperature.json), but {error} is missing"
        ) from error


def with_probabilities(table: pd.DataFrame, probs: FloatArray) -> pd.DataFrame:
    """`table` with other probabilities, float (N, C) in its class order, and the predictions that follow from them."""
    classes = classes_of(table)
    columns = {f"{PREFIX}{name}": probs[:, position].astype(np.float32) for position, name in enumerate(classes)}
    predicted = np.asarray(classes, dtype=object)[probs.argmax(axis=1)]
    return table.assign(prediction=predicted, **columns)
