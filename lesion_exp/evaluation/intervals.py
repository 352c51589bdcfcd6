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
"""The largest number of weights (lesions times draws) in memory at once, which are 8 MB."""


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
    """Returns the 95% interval (low, high) of each metric; see `bootstrap`.

    Metrics that are undefined for the table are left out.

    Args:
        table: predictions table.
        names: the names of the metrics; None: all.
        draws: number of bootstrap draws.
        seed: seed of the draws, which also depend on the number of lesions.
        unit: the unit of resampling, see `units_of`.

    Raises:
        ConfigError: a name is unknown, or `draws` is not positive.
        DataError: `table` is not a predictions table.
    """
    known = metric_names(classes_of(table))
    for name in names or ():
        if name not in known:
            raise ConfigError(f"expected the name of a metric, got {name!r}; {nearest(name, known)}")
    group, num_groups = units_of(table, unit)
    found = bootstrap(weighted_metrics(table, group, num_groups, names), num_groups, draws, seed)
    return {name: estimate.interval for name, estimate in found.items()}


def bootstrap(metrics: Weighted, num_groups: int, draws: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """Returns each metric with its 95% interval over groups of images, which are lesions or patients.

    Metrics that are counted or ranked have analytical intervals (`limits`, `calibration_error_limits`), which are also
    valid at 0 and 1. Other metrics with a largest value have intervals from bootstrap draws by `bounded_limits`. The
    rest have percentile intervals, from the 2.5% to the 97.5% quantile of the draws (Efron 1979,
    doi:10.1214/aos/1176344552). An interval always contains its value.

    Each draw resamples lesions with replacement, each with all its images: images of a lesion are not independent, and
    resampling images gives intervals that are too narrow (Field and Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x). Draws for which a metric is undefined, such as those without a lesion of its
    class, do not count for its interval. Metrics that are undefined for the data, or for all draws, are left out.

    Args:
        metrics: a function from the weights of groups, float64 (G, D), to values, float64 (D,).
        num_groups: G.
        draws: number of bootstrap draws.
        seed: seed of the draws, which also depend on G.

    Raises:
        ConfigError: `draws` is not positive.
    """
    _check_draws(draws)
    values = {name: float(row[0]) for name, row in metrics(np.ones((num_groups, 1))).items()}
    needs_draws = values.keys() - metrics.limits.keys()
    drawn_at = metrics.drawn()
    blocks = [drawn_at(weights) for weights in lesion_draws(num_groups, draws, seed)] if needs_draws else []
    found: dict[str, Estimate] = {}
    for name, value in values.items():
        if np.isnan(value):
            continue
        drawn = np.concatenate([block[name] for block in blocks]) if name in needs_draws else None
        low, high = _interval(metrics, name, value, drawn)
        if not np.isnan(low):
            found[name] = Estimate(value, min(low, value), max(high, value))
    return found


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ConfigError(f"expected at least 1 bootstrap draw, got {draws}; 2000 is a usual number")


def _interval(metrics: Weighted, name: str, value: float, drawn: FloatArray | None) -> tuple[float, float]:
    """Returns the interval of a metric; `drawn`, its value in each draw, is None for those in `metrics.limits`."""
    if drawn is None:
        limits = metrics.limits[name]()
        return limits.low, limits.high
    if name in metrics.bounds:
        bounds = metrics.bounds[name]
        limits = bounded_limits(value, drawn, bounds.lesions, bounds.highest, bounds.lowest)
        return limits.low, limits.high
    return percentile_interval(drawn)


def intervals_in_words(draws: int, unit: Unit) -> str:
    """Returns a description of the intervals of `bootstrap` for readers of results; see docs/statistics.md."""
    return (
        f"95%, over {unit}s, each with all its images: Wilson's for proportions, F1 and AUROC, combined from "
        f"these for means of classes, an inverted test for calibration errors, and {draws:,} bootstrap draws for the "
        f"rest"
    )


def units_of(table: pd.DataFrame, unit: Unit = "lesion") -> tuple[IntArray, int]:
    """Returns the position of each image's lesion or patient, int64 (N,), and their number.

    The lesion replaces the patient for images without `patient_id`. Each image without `lesion_id` is a lesion.

    Raises:
        ConfigError: the unit is patients, and no image has one.
    """
    lesion, num_lesions = lesion_of(table)
    if unit == "lesion":
        return lesion, num_lesions
    if "patient_id" not in table or table["patient_id"].isna().all():
        raise ConfigError(
            "expected evaluation.bootstrap_unit=lesion for images without patient_id, got patient; set it to lesion, "
            "because the data do not state which lesions belong to one patient"
        )
    patient = table["patient_id"].astype(object)
    known = patient.notna().to_numpy()
    keys = np.where(known, "p" + patient.astype(str), "l" + pd.Series(lesion, index=table.index).astype(str))
    codes, found = pd.factorize(pd.Series(keys))
    return codes.astype(np.int64), len(found)


def with_units(table: pd.DataFrame, unit: Unit = "lesion") -> pd.DataFrame:
    """Returns a predictions table whose `lesion_id` names the lesion or patient, so that what counts the former counts
    these.

    Raises:
        ConfigError: the unit is patients, and no image has one.
    """
    return table if unit == "lesion" else table.assign(lesion_id=units_of(table, unit)[0])


def lesion_of(table: pd.DataFrame) -> tuple[IntArray, int]:
    """Returns the position of each image's lesion, int64 (N,), and the number of lesions."""
    if "lesion_id" not in table:
        return np.arange(len(table)), len(table)
    codes, known = pd.factorize(table["lesion_id"])
    lesion = codes.astype(np.int64)
    missing = lesion < 0
    lesion[missing] = len(known) + np.arange(np.count_nonzero(missing))
    return lesion, len(known) + int(np.count_nonzero(missing))


def lesion_draws(num_lesions: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """Yields how often each lesion is drawn in each draw, float64 (lesions, draws of the block), block by block.

    The size of the blocks does not change the draws. A progress bar shows their number.

    Raises:
        ConfigError: `draws` is not positive.
    """
    _check_draws(draws)
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
    """Returns the 2.5% and the 97.5% quantile of the draws that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
