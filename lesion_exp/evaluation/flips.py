"""How many predictions change when an image is changed in a way that should not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, Unit, bootstrap, units_of
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.registry import shown_in
from lesion_exp.evaluation.weighted import difference, mean_of, merged

SCORES: Final = shown_in("shortcuts")


@dataclass(frozen=True)
class Flips:
    """The effect of a change of the images on the predictions of a network, with 95% intervals over lesions."""

    images: int
    flip_rate: Estimate
    """The share of the images whose predicted class changes."""
    excess: Estimate
    """The flip rate minus that of the control, on the same draws."""
    scores: dict[str, Estimate]
    """The metrics `SCORES` on the changed images, without those that are undefined."""
    drops: dict[str, Estimate]
    """The metrics `SCORES` without the change minus those with it, on the same draws."""
    mostly_to: str | None
    """The most frequent class among the changed predictions; None if no prediction changed."""
    share_to: float
    """The share of this class among the changed predictions."""


def flips(
    plain: pd.DataFrame,
    changed: pd.DataFrame,
    control: pd.DataFrame,
    draws: int = 2000,
    seed: int = 0,
    unit: Unit = "lesion",
) -> Flips:
    """Computes the effect of a change of the images, also beyond that of a harmless change.

    Args:
        plain: predictions table of the unchanged images.
        changed: predictions table of the changed images, with the same rows in the same order.
        control: predictions table of the harmlessly changed images, with the same rows in the same order.
        draws: number of bootstrap draws of lesions.
        seed: seed of the draws, which also depend on the number of lesions.
        unit: the unit of resampling, see `units_of`.

    Raises:
        ConfigError: `draws` is not positive, or patients are the unit and no image has one.
    """
    assert list(plain["row_id"]) == list(changed["row_id"]) == list(control["row_id"]), "the same rows in one order"
    before = plain["prediction"].to_numpy()
    flipped = changed["prediction"].to_numpy() != before
    by_control = control["prediction"].to_numpy() != before
    group, num_groups = units_of(plain, unit)
    shares = mean_of({"flip_rate": flipped, "control": by_control}, group, num_groups)
    now, then = (weighted_metrics(table, group, num_groups, SCORES) for table in (changed, plain))
    parts = {
        "": shares.only(["flip_rate"]),
        "excess/": difference(shares.only(["flip_rate"]), shares.renamed({"control": "flip_rate"})),
        "now/": now,
        "drop/": difference(then, now),
    }
    found = bootstrap(merged(parts.items()), num_groups, draws, seed)
    new = changed["prediction"][flipped].value_counts()
    return Flips(
        images=len(plain),
        flip_rate=found["flip_rate"],
        excess=found["excess/flip_rate"],
        scores={name: found[f"now/{name}"] for name in SCORES if f"now/{name}" in found},
        drops={name: found[f"drop/{name}"] for name in SCORES if f"drop/{name}" in found},
        mostly_to=None if new.empty else str(new.index[0]),
        share_to=0.0 if new.empty else float(new.iloc[0] / new.sum()),
    )
