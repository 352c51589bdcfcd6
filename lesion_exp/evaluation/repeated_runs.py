"""Jobs with several runs, which differ in their seeds or folds: mean, standard deviation and comparison."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import stats

from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.evaluation.registry import WATCHED_METRIC, Direction, is_share

LEVEL: Final = 0.05
"""Two jobs with a smaller corrected p-value differ significantly."""
_LEAST_OVERLAP: Final = 0.25


@dataclass(frozen=True)
class Repeated:
    """A metric of a job over its runs."""

    runs: int
    mean: float
    deviation: float | None
    """Standard deviation over the runs, or over the means of the splits if there are several; None for a single one."""
    low: float | None
    """Lower end of the 95% interval of the mean; None if no job of the comparison has several runs."""
    high: float | None
    p_against_best: float | None
    """Corrected p-value against the job with the best mean; None for that job, and if the variance is unknown."""

    @property
    def differs(self) -> bool:
        """Whether the job is significantly worse than the one with the best mean."""
        return self.p_against_best is not None and self.p_against_best < LEVEL


def means_of(jobs: Sequence[Sequence[tuple[Hashable, float]]]) -> list[float]:
    """Returns the mean of each job as in `repeated`, without intervals and comparisons, which take much longer.

    `jobs` are for each job the split and the metric of each run.
    """
    return [float(values.mean()) for values in _units_of(jobs)]


def repeated(
    jobs: Sequence[Sequence[tuple[Hashable, float]]], direction: Direction = "maximize", metric: str = WATCHED_METRIC
) -> list[Repeated]:
    """Returns mean, standard deviation and 95% interval of each job, and its corrected p-value against the best job.

    The variance between runs is assumed to be the same in all jobs and is pooled,

        s^2 = sum_g sum_i (y_gi - mean_g)^2 / sum_g (n_g - 1),

    so a job with a single run also has an interval if another job has several. The interval is that of Student's
    distribution, mean +- t s (1 / n + o)^(1/2). With one split, o = 0, and the interval is that over seeds on the same
    images. With several splits the runs of one split are averaged first, and because the training images of the splits
    overlap, o is the ratio of evaluated to training images, computed as 1 / (splits - 1) and at least 1 / 4 (Nadeau and
    Bengio 2003, doi:10.1023/A:1024068626366). If all jobs have the same splits, the differences between splits are
    removed from s before jobs are compared.

    The p-values are those of Tukey and Kramer (Kramer 1956, doi:10.2307/3001469). They are valid for all pairs at once,
    and so also for the pairs with the job that turned out to be the best. The variance is unknown if no job has two
    runs, or if all runs of each job have the same value; there are no intervals and p-values then.

    Args:
        jobs: for each job the split (anything hashable) and the metric of each run.
        direction: which values of the metric are better.
        metric: the name of the metric; intervals of a metric between 0 and 1 are cut off at this range.
    """
    splits = list(dict.fromkeys(split for runs in jobs for split, _ in runs))
    units = _units_of(jobs)
    means = [float(values.mean()) for values in units]
    residuals = [values - mean for values, mean in zip(units, means, strict=True)]
    overlap = max(_LEAST_OVERLAP, 1 / (len(splits) - 1)) if len(splits) > 1 else 0.0
    spread, degrees = _spread(residuals, sum(len(values) - 1 for values in units))
    paired, paired_degrees = spread, degrees
    if len(splits) > 1 and all(len({split for split, _ in runs}) == len(splits) for runs in jobs) and len(jobs) > 1:
        table = np.stack(residuals)
        paired, paired_degrees = _spread([table - table.mean(axis=0)], (len(jobs) - 1) * (len(splits) - 1))
    best = (max if direction == "maximize" else min)(range(len(jobs)), key=means.__getitem__) if jobs else 0
    found = []
    for place, (runs, values, mean) in enumerate(zip(jobs, units, means, strict=True)):
        low, high = None, None
        if spread:
            half = float(stats.t.ppf(0.975, degrees)) * spread * (1 / len(values) + overlap) ** 0.5
            low, high = _within(mean - half, mean + half, metric, units)
        p_value = None
        if place != best and paired:
            error = paired * (1 / len(values) + 1 / len(units[best]) + 2 * overlap) ** 0.5
            p_value = _tukey(2**0.5 * abs(mean - means[best]) / error, len(jobs), paired_degrees)
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        found.append(Repeated(len(runs), mean, deviation, low, high, p_value))
    return found


def _units_of(jobs: Sequence[Sequence[tuple[Hashable, float]]]) -> list[FloatArray]:
    """Returns the values of each job: those of its runs, or if the jobs have several splits the mean of each split."""
    several = len({split for runs in jobs for split, _ in runs}) > 1
    return [_units(runs, several=several) for runs in jobs]


def _units(runs: Sequence[tuple[Hashable, float]], several: bool) -> FloatArray:
    """Returns the values of the runs, or if there are several splits the mean of each, in the order of the splits."""
    if not several:
        return np.array([value for _, value in runs], dtype=np.float64)
    by_split: dict[Hashable, list[float]] = {}
    for split, value in runs:
        by_split.setdefault(split, []).append(value)
    return np.array([np.mean(by_split[split]) for split in sorted(by_split, key=str)], dtype=np.float64)


def _spread(residuals: Sequence[FloatArray], degrees: int) -> tuple[float, int]:
    """Returns the pooled standard deviation, 0 if it is unknown, and its degrees of freedom."""
    if degrees < 1:
        return 0.0, 0
    spread = math.sqrt(sum(float(np.square(row).sum()) for row in residuals) / degrees)
    return (spread if spread > 1e-12 else 0.0), degrees


def _within(low: float, high: float, metric: str, units: Sequence[FloatArray]) -> tuple[float, float]:
    """Returns the interval, cut off at 0 and 1 for a metric between 0 and 1."""
    known = np.concatenate(units)
    if not is_share(metric) or known.min() < 0 or known.max() > 1:
        return low, high
    return max(low, 0.0), min(high, 1.0)


@lru_cache(maxsize=1024)
def _tukey(statistic: float, jobs: int, degrees: int) -> float:
    return float(stats.studentized_range.sf(statistic, jobs, degrees))


def as_fields(found: Mapping[str, Repeated]) -> dict[str, dict[str, float | int | bool | None]]:
    """Returns plain values by metric, for JSON."""
    return {
        name: {
            "runs": one.runs,
            "mean": one.mean,
            "standard_deviation": one.deviation,
            "low": one.low,
            "high": one.high,
            "p_against_best": one.p_against_best,
        }
        for name, one in found.items()
    }
