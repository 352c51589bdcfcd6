"""Ensembles: the predictions tables of several models on the same images, combined into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lesion_exp.choices import ENSEMBLES
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.evaluation.calibrator import with_probabilities
from lesion_exp.evaluation.pairing import aligned
from lesion_exp.evaluation.predictions import (
    ENERGY,
    BoolArray,
    FloatArray,
    has_labels_only,
    is_unknown,
    probabilities,
)


def ensemble(method: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Combines the predictions tables of several models on the same images into one.

    - `mean`: the mean probability, and the mean energy;
    - `rank`: for each class the mean over the models of an image's rank among all images of the table, divided by the
      image's sum over classes. Overconfident models do not get a larger weight. The results are useful for AUROCs, but
      they are not probabilities: the row of an image depends on the other images.

    A stacked ensemble, which is fitted, is in `stacking`.

    Args:
        method: mean or rank.
        tables: the predictions tables of at least two models.

    Raises:
        ConfigError: the method is unknown, or there are fewer than two tables.
        DataError: the tables differ in their images, classes or labels; see `same_rows`.
    """
    check_choice("ensemble", method, ENSEMBLES)
    if len(tables) < 2:
        raise ConfigError(f"expected at least two runs for an ensemble, got {len(tables)}; name two or more: run=[A,B]")
    tables = same_rows(tables)
    first = tables[0].drop(columns=ENERGY, errors="ignore")
    probs = np.stack([probabilities(table) for table in tables])
    if method == "rank":
        probs = _ranks(probs, ~is_unknown(first))
    elif all(ENERGY in table for table in tables):
        energies = np.mean([table[ENERGY].to_numpy(np.float64) for table in tables], axis=0)
        first = first.assign(**{ENERGY: energies.astype(np.float32)})
    mean = probs.mean(axis=0)
    return with_probabilities(first, mean / mean.sum(axis=1, keepdims=True))


def _ranks(probs: FloatArray, known: BoolArray) -> FloatArray:
    """Returns the ranks of the probabilities of M models, (M, N, C), among the images of known classes, divided by the
    number of these. Ties have the mean rank. Images of unknown classes do not change the ranks of the others."""
    ranks = np.empty_like(probs)
    for model, place in np.ndindex(probs.shape[0], probs.shape[2]):
        scores = probs[model, :, place]
        ordered = np.sort(scores[known])
        first, behind = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
        ranks[model, :, place] = first + behind + 1
    return ranks / 2 / np.count_nonzero(known)


def same_rows(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Returns the predictions tables of `run 1`, `run 2` and so on with their rows in the order of the first.

    Raises:
        DataError: the images, classes, labels or lesions differ, see `pairing.aligned`; or a table has predicted
            classes without probabilities.
    """
    named = {f"run {number}": table for number, table in enumerate(tables, start=1)}
    without = [name for name, table in named.items() if has_labels_only(table)]
    if without:
        raise DataError(
            f"expected probabilities from all runs that are combined, but {', '.join(without)} has predicted classes "
            f"without probabilities; leave it out"
        )
    return list(aligned(named).values())
