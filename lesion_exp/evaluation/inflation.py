"""Inflation by leakage: how much higher a model's score is on its own test part than on a clean part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.limits import Limits, combined_limits
from lesion_exp.evaluation.metrics import weighted_metrics


@dataclass(frozen=True)
class Inflation:
    """A metric of a network on two sets of images and their difference, with 95% intervals."""

    own: Estimate
    """The metric on the test part of the split that the network was trained with."""
    clean: Estimate
    """The metric on the clean part."""
    inflation: Estimate
    """own - clean."""


def inflation(
    own: pd.DataFrame,
    clean: pd.DataFrame,
    names: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    unit: Unit = "lesion",
) -> dict[str, Inflation]:
    """Computes metrics of `own` and `clean` and their differences.

    Lesions are resampled with all their images (including copies of an image), independently in the two tables: these
    share no lesion, so their errors are independent. The interval of a difference is combined from those of its two
    parts (`limits.combined_limits`). The intervals are valid for this trained network, not for the job in general.
    Metrics that are undefined on one of the tables are left out.

    Args:
        own: predictions table of the network's own test part.
        clean: predictions table of the same network on the clean part.
        names: the names of the metrics.
        draws: number of bootstrap draws.
        seed: seed of the draws, which also depend on the numbers of lesions.
        unit: the unit of resampling, see `units_of`.

    Raises:
        ConfigError: `draws` is not positive, or patients are the unit and no image has one.
    """
    found = {}
    of_own, of_clean = (
        bootstrap(weighted_metrics(table, *units_of(table, unit), names), units_of(table, unit)[1], draws, seed)
        for table in (own, clean)
    )
    for name in [name for name in names if name in of_own and name in of_clean]:
        difference = combined_limits((1.0, -1.0), [Limits(*of_own[name]), Limits(*of_clean[name])])
        found[name] = Inflation(
            of_own[name], of_clean[name], Estimate(difference.value, difference.low, difference.high)
        )
    return found
