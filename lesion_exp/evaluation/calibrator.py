"""Calibrations that are fitted on the validation part, and their effect on the test part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from lesion_exp.errors import DataError, check_choice
from lesion_exp.evaluation.calibration import log_losses
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.predictions import (
    PREFIX,
    FloatArray,
    IntArray,
    classes_of,
    known_rows,
    probabilities,
    true_classes,
)

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


_DIGITS = 3
"""Of a log loss where it is shown: what is shown as equal is not called worse."""


@dataclass(frozen=True)
class CalibrationEffect:
    """The log loss of images before and after a calibration that was fitted on others, in nats."""

    method: str
    images: int
    before: float
    after: float
    others: Mapping[str, float]
    """The log loss of the same images after each other calibration that is known."""

    @property
    def is_worse(self) -> bool:
        """Whether the calibration raises the log loss, at the digits that are shown."""
        return round(self.after, _DIGITS) > round(self.before, _DIGITS)

    @property
    def warning(self) -> str | None:
        """What a person must know of the probabilities, in sentences; None where the calibration does no harm."""
        if not self.is_worse:
            return None
        loss = f"from {self.before:.{_DIGITS}f} to {self.after:.{_DIGITS}f}"
        cause = (
            " (isotonic regression on few images sets probabilities to 0, which costs most where they are wrong)"
            if self.method == "isotonic"
            else ""
        )
        better = [name for name, loss in self.others.items() if round(loss, _DIGITS) <= round(self.before, _DIGITS)]
        remedy = f"calibration={better[0]} ({self.others[better[0]]:.{_DIGITS}f}) or " if better else ""
        return (
            f"{self.method.capitalize()} calibration makes the probabilities worse: it raises the log loss of "
            f"{self.images:,} images that it was not fitted on {loss}{cause}. Use {remedy}calibration=none."
        )


def calibration_effect(
    table: pd.DataFrame, method: str, calibrators: Mapping[str, Calibrator]
) -> CalibrationEffect | None:
    """What the calibration `method` does to the log loss of `table`; None where `calibrators` do not hold it.

    Args:
        table: uncalibrated predictions of images that no calibration was fitted on.
        method: a calibration.
        calibrators: those of the network, by their methods, the ones to recommend first.

    Raises:
        DataError: the table is of other classes.
    """
    table = known_rows(table)
    if method not in calibrators or table.empty:
        return None
    true = true_classes(table)
    losses = {
        name: float(log_losses(probabilities(calibrator.calibrate(table)), true).mean())
        for name, calibrator in calibrators.items()
    }
    before = float(log_losses(probabilities(table), true).mean())
    return CalibrationEffect(method, len(table), before, losses.pop(method), losses)
