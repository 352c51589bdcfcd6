"""Detection of unknown classes: how well scores separate images of known classes from those of unknown classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.conformal import ConformalSets
from lesion_exp.evaluation.predictions import ENERGY, FloatArray, IntArray, is_unknown, probabilities
from lesion_exp.evaluation.ranking import ranking_metrics
from lesion_exp.evaluation.weighted import Weighted

SECTION: Final = "unknown"
"""The first part of the names of these metrics."""
AUROC: Final = "auroc"
FPR: Final = "fpr_at_95_tpr"
MAX_PROBABILITY: Final = "max_probability"
SET_SIZE: Final = "set_size"
_SENSITIVITY: Final = "sensitivity_at_95_specificity"


def unknown_scores(table: pd.DataFrame, conformal: Mapping[str, ConformalSets]) -> dict[str, FloatArray]:
    """Returns scores that are high for images that are unlike the network's classes, float64 (N,) each.

    - `max_probability`: 1 - the highest probability (Hendrycks and Gimpel 2017, arXiv:1610.02136);
    - `energy`: -log sum_c exp(logit_c), if the table has it for every image (Liu et al. 2020, arXiv:2010.03759);
    - `set_size_<method>`: the number of classes in the conformal set, for each method of `conformal`. Images of unknown
      classes may have large sets, but with `lac` also empty ones.

    Args:
        table: predictions table.
        conformal: fitted conformal sets, by method.
    """
    probs = probabilities(table)
    scores: dict[str, FloatArray] = {MAX_PROBABILITY: 1 - probs.max(axis=1)}
    if ENERGY in table and table[ENERGY].notna().all():
        scores[ENERGY] = table[ENERGY].to_numpy(dtype=np.float64)
    for method, fitted in conformal.items():
        scores[f"{SET_SIZE}_{method}"] = fitted.sets(probs).sum(axis=1).astype(np.float64)
    return scores


def unknown_metrics(
    table: pd.DataFrame, conformal: Mapping[str, ConformalSets], group: IntArray, num_groups: int
) -> Weighted:
    """Returns `auroc/<score>` and `fpr_at_95_tpr/<score>` of each score as a function of the weights of groups.

    - `auroc`: the probability that an image of an unknown class has a higher score than one of a known class, ties
      counting half; 0.5 is chance;
    - `fpr_at_95_tpr`: the share of images of unknown classes that are accepted as known at the strictest threshold that
      accepts at least 95% of the images of known classes; lower is better, and about 0.95 is chance.

    Args:
        table: predictions table with images of known and of unknown classes.
        conformal: see `unknown_scores`.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    positive = is_unknown(table)
    names = (AUROC, _SENSITIVITY)
    parts = {
        name: ranking_metrics(score, positive, group, num_groups, names)
        for name, score in unknown_scores(table, conformal).items()
    }

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {}
        for name, part in parts.items():
            found = part(weights)
            values[f"{AUROC}/{name}"] = found[AUROC]
            values[f"{FPR}/{name}"] = 1 - found[_SENSITIVITY]
        return values

    limits = {f"{AUROC}/{name}": part.limits[AUROC] for name, part in parts.items()}
    return Weighted(at, limits, {f"{FPR}/{name}": part.bounds[_SENSITIVITY] for name, part in parts.items()})
