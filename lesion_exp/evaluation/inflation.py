"""By how much a model's score on its own test part exceeds its score on images that it has never seen the like of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.limits import Limits, combined_limits
from lesion_exp.evaluation.metrics import weighted_metrics


@dataclass(frozen=True)
class Inflation:
    """One metric of one network on two sets of images, each with its 95% interval."""

    own: Estimate
    """On the test part of the split that it was trained with."""
    clean: Estimate
    """On the clean part."""
    inflation: Estimate
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
    share no lesion, so their errors are independent. The interval of a difference is combined from those of its two
    parts (`limits.combined_limits`). All hold for this training of the network, not for another.

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
