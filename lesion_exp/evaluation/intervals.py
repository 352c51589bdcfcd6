"""95% intervals of metrics over lesions or patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.evaluation.limits import bounded_limits
from lesion_exp.evaluation.metrics import metric_names, weighted_metrics
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of
from lesion_exp.evaluation.weighted import Weighted
from lesion_exp.progress import Stage

Unit = Literal["lesion", "patient"]
_MAX_CELLS: Final = 1_000_000
"""Lesions times draws that are held at once: 8 MB of weights."""


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high


def intervals(
    table: pd.DataFrame, names: Sequence[str] | None = None, draws: int = 2000, seed: int = 0, unit: Unit = "lesion"
) -> dict[str, tuple[float, float]]:
    """The 95% interval (low, high) of each metric; see `bootstrap`.

    Metrics that the table itself does not determine are left out of the result.

    Args:
        table: predictions table.
        names: metrics, as `metrics` names them; None is all.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of the number of lesions.
        unit: what is drawn, see `units_of`.

    Raises:
        ConfigError: a name is unknown, or `draws` is not positive.
        DataError: this is no predictions table.
    """
    known = metric_names(classes_of(table))
    for name in names or ():
        if name not in known:
            raise ConfigError(f"expected the name of a metric, got {name!r}; {nearest(name, known)}")
    group, num_groups = units_of(table, unit)
    found = bootstrap(weighted_metrics(table, group, num_groups, names), num_groups, draws, seed)
    return {name: estimate.interval for name, estimate in found.items()}


def bootstrap(metrics: Weighted, num_groups: int, draws: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """Each metric with its 95% interval over groups of images, which are lesions or patients.

    The interval of what is counted or ranked follows from the images (`limits`, `calibration_limits`) and holds at 0
    and 1, too; that of other metrics with a largest value from bootstrap draws, by `bounded_limits`; of the rest it is
    the 2.5% and the 97.5% quantile of the draws (Efron 1979, doi:10.1214/aos/1176344552).

    Each draw takes as many lesions as there are, with replacement, and each with all its images: images of a lesion
    are not independent, and drawing them one by one gives intervals that are too narrow (Field and Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x). Draws that do not determine a metric (a class of two lesions may miss) are
    left out of its quantiles. What the data themselves, or none of the draws, determine is left out of the result. An
    interval always holds its value.

    Args:
        metrics: from weights of groups, float64 (G, D), to values, float64 (D,).
        num_groups: G.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of G.

    Raises:
        ConfigError: `draws` is not positive.
    """
    values = {name: float(row[0]) for name, row in metrics(np.ones((num_groups, 1))).items()}
    blocks = [metrics(weights) for weights in lesion_draws(num_groups, draws, seed)]
    found: dict[str, Estimate] = {}
    for name, value in values.items():
        if np.isnan(value):
            continue
        low, high = _interval(metrics, name, value, np.concatenate([block[name] for block in blocks]))
        if not np.isnan(low):
            found[name] = Estimate(value, min(low, value), max(high, value))
    return found


def _interval(metrics: Weighted, name: str, value: float, drawn: FloatArray) -> tuple[float, float]:
    if name in metrics.limits:
        limits = metrics.limits[name]()
        return limits.low, limits.high
    if name in metrics.bounds:
        bounds = metrics.bounds[name]
        limits = bounded_limits(value, drawn, bounds.lesions, bounds.highest, bounds.lowest)
        return limits.low, limits.high
    return percentile_interval(drawn)


def intervals_in_words(draws: int, unit: Unit) -> str:
    """How the intervals of `bootstrap` are made, for a reader of the results; docs/statistics.md names each."""
    return (
        f"95%, over {unit}s, the images of one taken together: Wilson's for proportions, F1 and AUROC, combined from "
        f"these for means of classes, an inverted test for calibration errors, and {draws:,} bootstrap draws for the "
        f"rest"
    )


def units_of(table: pd.DataFrame, unit: Unit = "lesion") -> tuple[IntArray, int]:
    """The number of each image's lesion or patient, int64 (N,), and how many there are.

    An image without `patient_id` belongs to its lesion, and one without `lesion_id` is a lesion of its own.

    Raises:
        ConfigError: patients are asked for, and no image has one.
    """
    lesion, num_lesions = lesion_of(table)
    if unit == "lesion":
        return lesion, num_lesions
    if "patient_id" not in table or table["patient_id"].isna().all():
        raise ConfigError(
            "expected evaluation.bootstrap_unit=lesion for images without patient_id, got patient: nobody knows which "
            "lesions belong together"
        )
    patient = table["patient_id"].astype(object)
    known = patient.notna().to_numpy()
    keys = np.where(known, "p" + patient.astype(str), "l" + pd.Series(lesion, index=table.index).astype(str))
    codes, found = pd.factorize(pd.Series(keys))
    return codes.astype(np.int64), len(found)


def lesion_of(table: pd.DataFrame) -> tuple[IntArray, int]:
    """The number of each image's lesion, int64 (N,), and how many lesions there are."""
    if "lesion_id" not in table:
        return np.arange(len(table)), len(table)
    codes, known = pd.factorize(table["lesion_id"])
    lesion = codes.astype(np.int64)
    missing = lesion < 0
    lesion[missing] = len(known) + np.arange(np.count_nonzero(missing))
    return lesion, len(known) + int(np.count_nonzero(missing))


def lesion_draws(num_lesions: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """How often each lesion is drawn, float64 (lesions, at most `draws`), block by block; the blocks' size is no part
    of the result. A stage shows how many draws are done.

    Raises:
        ConfigError: `draws` is not positive.
    """
    if draws < 1:
        raise ConfigError(f"expected at least 1 bootstrap draw, got {draws}; 2000 is a usual number")
    rng = np.random.default_rng(seed)
    size = max(_MAX_CELLS // num_lesions, 1)
    with Stage("drawing lesions for intervals:", draws, "draws", announced=False) as stage:
        for start in range(0, draws, size):
            width = min(size, draws - start)
            drawn = rng.integers(0, num_lesions, (width, num_lesions))
            cells = drawn * width + np.arange(width)[:, None]
            counts = np.bincount(cells.ravel(), minlength=num_lesions * width)
            yield counts.reshape(num_lesions, width).astype(np.float64)
            stage.advance(width)


def percentile_interval(values: FloatArray) -> tuple[float, float]:
    """The 2.5% and the 97.5% quantile of the draws that determine a value; NaN where none does."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
