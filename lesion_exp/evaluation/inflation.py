"""By how much a model's score on its own test part exceeds its score on images that it has never seen the like of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.intervals import Estimate, Unit, lesion_draws, percentile_interval, units_of
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import FloatArray


@dataclass(frozen=True)
class Inflation:
    """One metric of one network on two sets of images, each with its 95% interval."""

    own: Estimate
    """On the test part of the split that it was trained with."""
    clean: Estimate
    """On the clean part."""
    buys: Estimate
    """The difference, own - clean."""


def inflation(
    own: pd.DataFrame,
    clean: pd.DataFrame,
    names: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    unit: Unit = "lesion",
) -> dict[str, Inflation]:
    """The metrics `names` of `own` and `clean`, and their differences; without those that a table does not determine.

    Lesions are drawn anew with all their images (also with all copies of an image), in each table for itself: the two
    share no lesion, so their draws are independent. Intervals are percentiles, as in `intervals.bootstrap`. They hold
    for this training of the network, not for another.

    Args:
        own: predictions table of the network's own test part.
        clean: predictions table of the same network on the clean part.
        names: metrics, as `metrics` names them.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of the numbers of lesions.
        unit: what is drawn, see `units_of`.

    Raises:
        ConfigError: `draws` is not positive, or patients are asked for where no image has one.
    """
    if draws < 1:
        raise ConfigError(f"expected at least 1 bootstrap draw, got {draws}; 2000 is a usual number")
    value_own, drawn_own = _drawn(own, names, draws, seed, unit)
    value_clean, drawn_clean = _drawn(clean, names, draws, seed + 1, unit)
    found = {}
    for name in names:
        parts = (
            Estimate(value_own[name], *percentile_interval(drawn_own[name])),
            Estimate(value_clean[name], *percentile_interval(drawn_clean[name])),
            Estimate(value_own[name] - value_clean[name], *percentile_interval(drawn_own[name] - drawn_clean[name])),
        )
        if not np.isnan(np.array(parts)).any():
            found[name] = Inflation(*parts)
    return found


def _drawn(
    table: pd.DataFrame, names: Sequence[str], draws: int, seed: int, unit: Unit
) -> tuple[dict[str, float], dict[str, FloatArray]]:
    """Each metric of the table, and in each draw, float64 (D,)."""
    group, num_groups = units_of(table, unit)
    at = weighted_metrics(table, group, num_groups, names)
    blocks = [at(weights) for weights in lesion_draws(num_groups, draws, seed)]
    whole = at(np.ones((num_groups, 1)))
    values = {name: float(whole[name][0]) for name in names}
    return values, {name: np.concatenate([block[name] for block in blocks]) for name in names}
