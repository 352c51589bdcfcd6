"""Jobs that were run several times, with other seeds or on other folds: mean, spread and comparison."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from scipy import stats

from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.evaluation.registry import WATCHED_METRIC, is_share

Direction = Literal["maximize", "minimize"]
LEVEL: Final = 0.05
"""Two jobs with a corrected p-value below this one are told apart."""
_LEAST_OVERLAP: Final = 0.25


@dataclass(frozen=True)
class Repeated:
    """What the runs of one job came to in one metric."""

    runs: int
    mean: float
    deviation: float | None
    """Standard deviation of its runs; where the splits differ, of the means of its splits; None for one of them."""
    low: float | None
    """Ends of the 95% interval of the mean; None where no job of the comparison was run several times."""
    high: float | None
    p_against_best: float | None
    """Corrected p-value against the job with the best mean; None for that job, and where the spread is not known."""

    @property
    def differs(self) -> bool:
        """Whether the job is worse than the one with the best mean by more than repeated runs vary."""
        return self.p_against_best is not None and self.p_against_best < LEVEL


def repeated(
    jobs: Sequence[Sequence[tuple[Hashable, float]]], direction: Direction = "maximize", metric: str = WATCHED_METRIC
) -> list[Repeated]:
    """Mean, standard deviation and 95% interval of each job, and its corrected p-value against the best of them.

    Training is assumed to vary as much in one job as in another: the deviations of all jobs are pooled,

        s^2 = sum_g sum_i (y_gi - mean_g)^2 / sum_g (n_g - 1),

    so a job that was run once has an interval, too, if another one was run several times. The interval is Student's,
    mean +- t s (1 / n + o)^(1/2). On one split, o = 0, and the interval tells what other seeds would come to on the
    same images. With several splits the runs of one split are averaged first, and because the training images of the
    splits overlap, o is the ratio of judged to trained images, taken as 1 / (splits - 1) and as 1 / 4 at least (Nadeau
    and Bengio 2003, doi:10.1023/A:1024068626366). If all jobs were run on the same splits, the differences between
    splits are taken out of s before jobs are compared.

    The p-values are Tukey's and Kramer's (Kramer 1956, doi:10.2307/3001469): they hold for all pairs at once, so also
    for the pairs with the job that was found to be the best. Nothing is known about the spread where no job was run
    twice, or where all runs of each job came to the same value.

    Args:
        jobs: for each job the split (anything hashable) and the metric of each run.
        direction: which values of the metric are better.
        metric: its name; the interval of a metric between 0 and 1 does not leave this range.
    """
    splits = list(dict.fromkeys(split for runs in jobs for split, _ in runs))
    units = [_units(runs, several=len(splits) > 1) for runs in jobs]
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


def _units(runs: Sequence[tuple[Hashable, float]], several: bool) -> FloatArray:
    """The values of the runs, or of several splits the mean of each, in the order of the splits."""
    if not several:
        return np.array([value for _, value in runs], dtype=np.float64)
    by_split: dict[Hashable, list[float]] = {}
    for split, value in runs:
        by_split.setdefault(split, []).append(value)
    return np.array([np.mean(by_split[split]) for split in sorted(by_split, key=str)], dtype=np.float64)


def _spread(residuals: Sequence[FloatArray], degrees: int) -> tuple[float, int]:
    """The pooled standard deviation, 0 where nothing is known about it, and its degrees of freedom."""
    if degrees < 1:
        return 0.0, 0
    spread = math.sqrt(sum(float(np.square(row).sum()) for row in residuals) / degrees)
    return (spread if spread > 1e-12 else 0.0), degrees


def _within(low: float, high: float, metric: str, units: Sequence[FloatArray]) -> tuple[float, float]:
    known = np.concatenate(units)
    if not is_share(metric) or known.min() < 0 or known.max() > 1:
        return low, high
    return max(low, 0.0), min(high, 1.0)


@lru_cache(maxsize=1024)
def _tukey(statistic: float, jobs: int, degrees: int) -> float:
    return float(stats.studentized_range.sf(statistic, jobs, degrees))


def as_fields(found: Mapping[str, Repeated]) -> dict[str, dict[str, float | int | bool | None]]:
    """Plain values by metric, for JSON."""
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
