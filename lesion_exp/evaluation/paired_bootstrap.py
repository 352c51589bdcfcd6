"""Metrics of several models on the same bootstrap draws of lesions, so that their differences can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, lesion_draws, lesion_of, percentile_interval
from lesion_exp.evaluation.limits import Limits, combined_limits
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Weighted


@dataclass(frozen=True)
class PairedDraws:
    """Metrics of T models on the same images; NaN where a table or a draw does not determine a metric."""

    estimates: dict[str, FloatArray]
    """float64 (T,), on the images as they are."""
    draws: dict[str, FloatArray]
    """float64 (T, D), on the bootstrap draws; column d is the same draw of lesions for all models."""
    metrics: Sequence[Weighted] = ()
    """Those of each table, as functions of the weights of its lesions."""

    def limits(self, name: str, groups: Sequence[int]) -> Limits | None:
        """The limits of a metric of one table, or of that of the first less that of the second of two; None where they
        are those of the draws, as for the difference of two areas that varies."""
        is_area = name.partition("/")[0] in {"auroc", AUROC_MACRO}
        if len(groups) == 2 and is_area and np.ptp(self.draws[name][groups[0]] - self.draws[name][groups[1]]) > 0:
            return None
        if any(name not in self.metrics[table].limits for table in groups):
            return None
        parts = [self.metrics[table].limits[name]() for table in groups]
        if len(parts) == 1:
            return parts[0]
        return None if any(part.influence is None for part in parts) else combined_limits((1.0, -1.0), parts)


def paired_draws(tables: Sequence[pd.DataFrame], names: Sequence[str], draws: int = 2000, seed: int = 0) -> PairedDraws:
    """The metrics `names` of each table, estimated and on `draws` bootstrap draws of lesions that all tables share.

    An image that is hard for one model is mostly hard for the other; drawing both together takes this out of the
    difference, whose interval becomes narrower than that of two test parts. The draws are those of `intervals`.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        names: metrics, as `metrics` names them.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of the number of lesions.

    Raises:
        ConfigError: `draws` is not positive.
    """
    lesion, num_lesions = lesion_of(tables[0])
    functions = [weighted_metrics(table, lesion, num_lesions, names) for table in tables]
    whole = [at(np.ones((num_lesions, 1))) for at in functions]
    blocks = [[at(weights) for at in functions] for weights in lesion_draws(num_lesions, draws, seed)]
    return PairedDraws(
        {name: np.array([values[name][0] for values in whole]) for name in names},
        {
            name: np.concatenate([np.stack([values[name] for values in block]) for block in blocks], axis=1)
            for name in names
        },
        functions,
    )


def paired_differences(
    first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Each metric of `first` less that of `second`, both on the same draws, with its 95% interval.

    The arguments are those of `paired_draws`; what the tables or all draws leave undetermined is left out.
    """
    found = paired_draws([first, second], names, draws, seed)
    differences = {}
    for name in names:
        limits = found.limits(name, (0, 1))
        drawn = percentile_interval(found.draws[name][0] - found.draws[name][1])
        interval = drawn if limits is None else (limits.low, limits.high)
        differences[name] = Estimate(float(found.estimates[name][0] - found.estimates[name][1]), *interval)
    return {name: estimate for name, estimate in differences.items() if not np.isnan(estimate).any()}
