"""Calibration methods that are fitted on the validation part, and their effect on the test part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from lesion_exp.errors import DataError, check_choice
from lesion_exp.evaluation.calibration import log_losses
from lesion_exp.evaluation.intervals import Unit, lesion_draws, lesion_of, percentile_interval, units_of
from lesion_exp.evaluation.lesion_counts import is_enough
from lesion_exp.evaluation.predictions import (
    LABELS_ONLY,
    PREFIX,
    RESCALED,
    FloatArray,
    IntArray,
    classes_of,
    known_rows,
    probabilities,
    true_classes,
)

SMALLEST: Final = float(np.finfo(np.float32).tiny)
"""Smaller probabilities are replaced by this one before a logarithm: float32 represents no smaller number exactly."""
_LOG_TEMPERATURES: Final = (np.log(0.02), np.log(50.0))
_DRAWS: Final = 1000
"""Bootstrap draws of lesions for the interval of the effect."""


@dataclass(frozen=True)
class TemperatureScaling:
    """Temperature scaling, softmax(z / T); T > 1 lowers the confidence (Guo et al. 2017, arXiv:1706.04599).

    The logits z are computed as log p. They differ from the network's logits by a constant for each image, which does
    not change the softmax. The order of the classes and the prediction do not change.
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """Fits the temperature, between 0.02 and 50, with the smallest log loss.

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        from scipy.optimize import minimize_scalar  # fitting alone needs it, and importing it takes long

        logits = log_probs(probs)

        def loss(log_temperature: float) -> float:
            scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
            return -float(scaled[np.arange(len(true)), true].mean())

        found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(found.x)))

    def apply(self, probs: FloatArray) -> FloatArray:
        """Returns the calibrated probabilities, float64 (N, C)."""
        return np.asarray(softmax(log_probs(probs) / self.temperature, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {"temperature": self.temperature}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores the values of `to_dict`."""
        return cls(float(values["temperature"]))


def log_probs(probs: FloatArray) -> FloatArray:
    """Returns log p, float64 (N, C), with p at least `SMALLEST`, so that the result is finite."""
    return np.asarray(np.log(np.clip(probs, SMALLEST, 1.0)), dtype=np.float64)


_PRIOR_WEIGHT: Final = 1.0
"""Weight of the penalty that pulls scales to 1 and biases to 0. It counts as much as one image, so it only matters for
classes with few images."""


@dataclass(frozen=True)
class VectorScaling:
    """Vector scaling, softmax(w * log p + b), with one w and one b for each class (Guo et al. 2017, arXiv:1706.04599).

    It uses log p instead of the logits, which a predictions table does not contain, and so is the diagonal case of
    Dirichlet calibration (Kull et al. 2019, arXiv:1910.12656). Unlike a temperature it moves probability between
    classes, which is necessary after training on balanced batches, and so it changes predictions.
    """

    method: ClassVar[str] = "vector"
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """Minimises the sum of the log losses and (|w - 1|^2 + |b|^2) / 2, starting at w = 1 and b = 0.

        The second term keeps w and b finite for classes with few or no images in the validation part.

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        size = probs.shape[1]
        logits = log_probs(probs)
        hits = np.eye(size)[true]

        def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
            scale, bias = parameters[:size], parameters[size:]
            scaled = log_softmax(logits * scale + bias, axis=1)
            pull = np.concatenate([scale - 1, bias])
            errors = np.exp(scaled) - hits
            gradient = np.concatenate([(errors * logits).sum(axis=0), errors.sum(axis=0)]) + _PRIOR_WEIGHT * pull
            return -float(scaled[np.arange(len(true)), true].sum()) + _PRIOR_WEIGHT * float(pull @ pull) / 2, gradient

        from scipy.optimize import minimize

        found = minimize(loss_and_gradient, np.r_[np.ones(size), np.zeros(size)], jac=True, method="L-BFGS-B").x
        return cls(tuple(map(float, found[:size])), tuple(map(float, found[size:])))

    def apply(self, probs: FloatArray) -> FloatArray:
        """Returns the calibrated probabilities, float64 (N, C)."""
        return np.asarray(softmax(log_probs(probs) * self.scale + self.bias, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {"scale": list(self.scale), "bias": list(self.bias)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores the values of `to_dict`."""
        return cls(tuple(map(float, values["scale"])), tuple(map(float, values["bias"])))


@dataclass(frozen=True)
class IsotonicScaling:
    """Isotonic regression of each class against the rest; the results are divided by their sum (Zadrozny and Elkan
    2002, doi:10.1145/775047.775151).

    It assumes no shape of the curves and therefore needs many images of each class. The probabilities of an image for
    which all curves give 0 are not changed.
    """

    method: ClassVar[str] = "isotonic"
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """For each class the corners of its curve: probabilities before calibration, in rising order, and after it."""

    @classmethod
    def fit(cls, probs: FloatArray, true: IntArray) -> Self:
        """Fits, for each class, the rising curve with the smallest squared error against "is of this class".

        Args:
            probs: float64 (N, C).
            true: int (N,), positions of the true classes.
        """
        from sklearn.isotonic import IsotonicRegression

        curves = []
        for position in range(probs.shape[1]):
            fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
                probs[:, position], (true == position).astype(np.float64)
            )
            curves.append((tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_))))
        return cls(tuple(curves))

    def apply(self, probs: FloatArray) -> FloatArray:
        """Returns the calibrated probabilities, float64 (N, C)."""
        raised = np.stack([np.interp(probs[:, c], *corners) for c, corners in enumerate(self.curves)], axis=1)
        total = raised.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(raised, total, out=np.array(probs, dtype=np.float64), where=total > 0))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {"curves": [{"before": list(before), "after": list(after)} for before, after in self.curves]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores the values of `to_dict`."""
        return cls(tuple((tuple(curve["before"]), tuple(curve["after"])) for curve in values["curves"]))


Scaling = TemperatureScaling | VectorScaling | IsotonicScaling
METHODS: Final[dict[str, type[Scaling]]] = {
    kind.method: kind for kind in (TemperatureScaling, VectorScaling, IsotonicScaling)
}
DEFAULT_CALIBRATION: Final = "none"
"""The default of everything that returns probabilities (predict, serve, export, the MLflow model): the network's own
probabilities, whose predictions are those that the metrics `test/...` evaluate."""


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibration of the probabilities of `classes`, and the numbers of images and lesions of the fit."""

    scaling: Scaling
    classes: tuple[str, ...]
    images: int
    lesions: int

    def apply(self, probs: FloatArray) -> FloatArray:
        """Returns the calibrated probabilities, float64 (N, C); `probs` has the order of `classes`."""
        assert probs.shape[1] == len(self.classes), "the probabilities are those of other classes"
        return self.scaling.apply(np.asarray(probs, dtype=np.float64))

    def calibrate(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table` with calibrated probabilities and the predictions that follow from them.

        Raises:
            DataError: the table has other classes.
        """
        if classes_of(table) != self.classes:
            raise DataError(
                f"expected predictions of the classes {', '.join(self.classes)}, on which the calibration was fitted, "
                f"got {', '.join(classes_of(table))}; use the calibration of the run that made the predictions"
            )
        return with_probabilities(table, self.apply(probabilities(table)))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {
            "method": self.scaling.method,
            "classes": list(self.classes),
            "fitted_on": {"part": "val", "images": self.images, "lesions": self.lesions},
            **self.scaling.to_dict(),
        }


def fit_calibrator(method: str, table: pd.DataFrame) -> Calibrator:
    """Fits the calibration `method` (temperature, vector or isotonic) to the predictions of a validation part.

    Raises:
        ConfigError: the method is unknown.
    """
    check_choice("calibration", method, METHODS)
    scaling = METHODS[method].fit(probabilities(table), true_classes(table))
    return Calibrator(scaling, classes_of(table), len(table), lesion_of(table)[1])


def read_calibrator(content: dict[str, Any]) -> Calibrator:
    """Restores a calibration from the values of `Calibrator.to_dict`.

    Raises:
        ConfigError: the method is unknown.
        DataError: a value is missing or invalid.
    """
    try:
        method = content["method"]
        fitted_on = content["fitted_on"]
        check_choice("calibration", method, METHODS)
        scaling = METHODS[method].from_dict(content)
        return Calibrator(scaling, tuple(content["classes"]), int(fitted_on["images"]), int(fitted_on["lesions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"expected a calibration with the values that a run saves (such as calibration/temperature.json), got "
            f"other values ({error!r}); use a run of this version, or calibration=none"
        ) from error


def with_probabilities(table: pd.DataFrame, probs: FloatArray) -> pd.DataFrame:
    """Returns `table` with new probabilities and the predictions that follow from them.

    Args:
        table: predictions table.
        probs: float (N, C), in the class order of the table.
    """
    classes = classes_of(table)
    columns = {f"{PREFIX}{name}": probs[:, position].astype(np.float32) for position, name in enumerate(classes)}
    predicted = np.asarray(classes, dtype=object)[probs.argmax(axis=1)]
    return table.drop(columns=[LABELS_ONLY, RESCALED], errors="ignore").assign(prediction=predicted, **columns)


_DIGITS: Final = 3
"""Decimals of a log loss in messages. Log losses that are equal at these digits count as equal."""


@dataclass(frozen=True)
class CalibrationEffect:
    """The log loss, in nats, before and after a calibration, on images that it was not fitted on."""

    method: str
    images: int
    before: float
    after: float
    others: Mapping[str, float]
    """The log loss of the same images after each of the other calibrations of the network, by method."""
    change: tuple[float, float] | None = None
    """The 95% interval of `after - before` over lesions or patients; None if it is not known."""
    num_units: int | None = None
    """The number of lesions, or of patients, of the images."""
    unit: Unit = "lesion"
    """What the interval is over."""

    @property
    def is_worse(self) -> bool:
        """Whether the calibration raises the log loss, rounded to three decimals."""
        return round(self.after, _DIGITS) > round(self.before, _DIGITS)

    @property
    def warning(self) -> str | None:
        """A warning with a remedy if the calibration raises the log loss of enough lesions or patients; else None."""
        if not self.is_worse or not (self.num_units is None or is_enough(self.num_units)):
            return None
        loss = f"from {self.before:.{_DIGITS}f} to {self.after:.{_DIGITS}f}"
        cause = (
            " (isotonic regression on few images sets probabilities to 0, which costs most where they are wrong)"
            if self.method == "isotonic"
            else ""
        )
        better = [name for name, loss in self.others.items() if round(loss, _DIGITS) <= round(self.before, _DIGITS)]
        remedy = f"calibration={better[0]} ({self.others[better[0]]:.{_DIGITS}f}) or " if better else ""
        caution = " Results on images by which a calibration is chosen are slightly too good." if better else ""
        return (
            f"{self.method.capitalize()} calibration makes the probabilities worse: it raises the log loss of "
            f"{self.images:,} images that it was not fitted on {loss}{self._interval()}{cause}. Use {remedy}"
            f"calibration=none."
            f"{caution}"
        )

    def _interval(self) -> str:
        if self.change is None:
            return ""
        low, high = self.change
        doubt = ", so this may be chance" if low <= 0 else ""
        return f" (95% interval of the change over {self.unit}s: {low:+.{_DIGITS}f} to {high:+.{_DIGITS}f}{doubt})"


def calibration_effect(
    table: pd.DataFrame, method: str, calibrators: Mapping[str, Calibrator], unit: Unit = "lesion"
) -> CalibrationEffect | None:
    """Returns the log loss of `table` before and after the calibration `method`.

    The result is None if `calibrators` has no such calibration, or if `table` has no image of a known class.

    Args:
        table: uncalibrated predictions of images that no calibration was fitted on.
        method: the calibration.
        calibrators: the calibrations of the network, by method. Those that a warning should recommend come first.
        unit: what the interval is over.

    Raises:
        DataError: the table has other classes.
        ConfigError: the unit is patients, and no image has one.
    """
    table = known_rows(table)
    if method not in calibrators or table.empty:
        return None
    true = true_classes(table)
    losses = {
        name: log_losses(probabilities(calibrator.calibrate(table)), true) for name, calibrator in calibrators.items()
    }
    before, after = log_losses(probabilities(table), true), losses.pop(method)
    others = {name: float(found.mean()) for name, found in losses.items()}
    group, num_groups = units_of(table, unit)
    change = _mean_over_units(after - before, group, num_groups)
    means = float(before.mean()), float(after.mean())
    return CalibrationEffect(method, len(table), *means, others, change, num_groups, unit)


def _mean_over_units(values: FloatArray, group: IntArray, num_groups: int) -> tuple[float, float]:
    """The 95% interval of the mean of `values` (N,), from bootstrap draws of the lesions or patients in `group`."""
    sums, sizes = np.bincount(group, values, num_groups), np.bincount(group, minlength=num_groups)
    means = [sums @ weights / (sizes @ weights) for weights in lesion_draws(num_groups, _DRAWS, seed=0)]
    return percentile_interval(np.concatenate(means))
