"""Whether a calibration helps on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lesion_exp.evaluation.calibration import log_losses
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.predictions import known_rows, probabilities, true_classes

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
