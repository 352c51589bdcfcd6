"""How much of the evidence lies inside the lesion: a row an image, and means with intervals."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, bootstrap, lesion_of
from lesion_exp.evaluation.weighted import mean_of
from lesion_exp.explanation.localisation import FloatMap, Mask, centre_hit, pointing_hit, share_inside

MEASURES: Final = ("pointing_game", "share_inside", "mask_share", "centre_in_mask")
"""The last two are what chance scores: a map that is even all over, one that points at the centre without looking."""
ALL, RIGHT, WRONG = "all", "right", "wrong"


def measures(evidence: FloatMap, mask: Mask) -> dict[str, float]:
    """The measures of one map, (H, W), all from 0 to 1; NaN for what a map without evidence leaves open."""
    found = pointing_hit(evidence, mask), share_inside(evidence, mask), float(mask.mean()), centre_hit(mask)
    return dict(zip(MEASURES, found, strict=True))


def estimates(table: pd.DataFrame, draws: int, seed: int) -> dict[str, dict[str, Estimate]]:
    """The mean of each measure with its 95% interval from a bootstrap over lesions: of all images, of those predicted
    right or wrong, and of each true class. What no image determines is left out.

    Args:
        table: `lesion_id`, `label`, `prediction` and the measures, a row an image.
        draws: number of bootstrap draws.
        seed: their seed.
    """
    right = table["label"] == table["prediction"]
    groups = {ALL: table, RIGHT: table[right], WRONG: table[~right]}
    groups |= {str(name): rows for name, rows in table.groupby("label")}
    found: dict[str, dict[str, Estimate]] = {}
    for name, rows in groups.items():
        if len(rows):
            lesion, num_lesions = lesion_of(rows)
            measured = {measure: rows[measure].to_numpy(dtype=np.float64) for measure in MEASURES}
            found[name] = bootstrap(mean_of(measured, lesion, num_lesions), num_lesions, draws, seed)
    return {name: means for name, means in found.items() if means}
