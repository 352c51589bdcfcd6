"""The uncertainty of a mean over runs that differ in their seed alone, and of a difference of two such means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lesion_exp.evaluation.intervals import percentile_interval
from lesion_exp.evaluation.predictions import FloatArray


@dataclass(frozen=True)
class Pooled:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float
    error: float | None = None
    """Standard error; None for single runs, whose interval is a bare bootstrap."""
    degrees: float = math.inf
    """Degrees of freedom of the standard error."""

    def p_of(self, value: float) -> float | None:
        """Two-sided p-value that a result of `value`, as uncertain as this one, has against 0; None for single runs."""
        if self.error is None:
            return None
        if self.error == 0:
            return 1.0 if value == 0 else 0.0
        return float(2 * stats.t.sf(abs(value) / self.error, self.degrees))


def pooled(values: FloatArray, draws: FloatArray, groups: Sequence[Sequence[int]], num_lesions: int) -> Pooled:
    """The mean of the first group of runs, less that of the second if there are two, with a 95% interval.

    Single runs have the percentile interval of the bootstrap. Where a group holds several runs, their spread counts,
    too: the standard error is the root of

        var(draws of the difference of means) + s^2 (1/k_1 + 1/k_2),
        s^2 = sum_g (k_g - 1) s_g^2 / sum_g (k_g - 1),

    with k_g runs and the standard deviation s_g in group g, and the interval is Student's, with Welch and
    Satterthwaite's degrees of freedom (the bootstrap term has one less than there are lesions). That training varies as
    much in one job as in the other is assumed; so a single run can be compared with several. What a seed changes on
    some lesions and not on others is in both terms: in simulations 94 to 99% of the intervals hold the truth.
    Sources: Bouthillier et al. 2021, arXiv:2103.03098 (why seeds count); Satterthwaite 1946, doi:10.2307/3002019.

    Args:
        values: float64 (T,), the metric of each run.
        draws: float64 (T, D), the same on paired bootstrap draws.
        groups: the positions of the runs of one group, or of two.
        num_lesions: number of lesions drawn from.
    """
    signs = (1, -1)
    means = [values[list(group)].mean() for group in groups]
    value = float(sum(sign * mean for sign, mean in zip(signs, means, strict=False)))
    drawn = sum(sign * draws[list(group)].mean(axis=0) for sign, group in zip(signs, groups, strict=False))
    assert isinstance(drawn, np.ndarray), "there is at least one group"
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Pooled(value, *percentile_interval(drawn))
    squares = sum(np.square(values[list(group)] - mean).sum() for group, mean in zip(groups, means, strict=True))
    of_seeds = float(squares) / freedom * sum(1 / len(group) for group in groups)
    known = drawn[~np.isnan(drawn)]
    of_lesions = float(known.var(ddof=1)) if len(known) > 1 else math.nan
    variance = of_seeds + of_lesions
    if variance == 0:
        return Pooled(value, value, value, error=0.0)
    degrees = variance**2 / (of_seeds**2 / freedom + of_lesions**2 / max(num_lesions - 1, 1))
    half = float(stats.t.ppf(0.975, degrees)) * math.sqrt(variance)
    return Pooled(value, value - half, value + half, math.sqrt(variance), degrees)
