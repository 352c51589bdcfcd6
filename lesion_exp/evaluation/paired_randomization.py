"""Tests between two models on the same images that hold their level for few images: which answers are exchanged at
random decides what a difference is worth."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from lesion_exp.evaluation.confusion import mean_of_determined
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.malignant_view import scores_of
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import FloatArray, classes_of
from lesion_exp.evaluation.ranking import ranking_metrics
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Weighted, merged

_AREA: Final = "auroc"
_MAX_CELLS: Final = 1_000_000
_ROUNDING: Final = 1e-9


def exchanged_differences(
    first: pd.DataFrame, second: pd.DataFrame, names: Collection[str], draws: int = 2000, seed: int = 0
) -> dict[str, FloatArray]:
    """Each metric of `first` less that of `second`, float64 (D,), with their answers exchanged on half of the lesions.

    If neither model is better, it could as well have been the other that gave an answer: each draw exchanges the
    predictions of the two on the lesions that a coin chooses, with all images of a lesion. The differences seen in this
    way are what chance gives, for any metric and any number of images (Noreen 1989, Computer-Intensive Methods for
    Testing Hypotheses; Yeh 2000, doi:10.3115/992730.992783, for precision and F1). Models may use different scales of
    scores, so for areas under the ROC curve the ranks of the scores are exchanged (Bandos et al. 2005,
    doi:10.1002/sim.2149).

    Args:
        first: predictions table.
        second: one with the same rows in the same order (see `pairing.aligned`).
        names: metrics, as `metrics` names them.
        draws: D.
        seed: the draws are a function of it and of the number of lesions.
    """
    lesion, num_lesions = lesion_of(first)
    metrics = _of_both(first, second, np.concatenate([lesion, lesion + num_lesions]), 2 * num_lesions, names)
    blocks: list[dict[str, FloatArray]] = []
    for kept in _coins(num_lesions, draws, seed):
        one, two = metrics(np.concatenate([kept, 1 - kept])), metrics(np.concatenate([1 - kept, kept]))
        blocks.append({name: one[name] - two[name] for name in names})
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def randomization_p(difference: float, exchanged: FloatArray) -> float:
    """The two-sided p-value of a difference: (1 + draws that are as far from 0, or farther) / (1 + draws).

    It is never 0: with 2000 draws the smallest value is 0.0005.
    Source: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    farther = np.count_nonzero(np.abs(exchanged) >= abs(difference) - _ROUNDING)
    return float(1 + farther) / (1 + len(exchanged))


def family_p(differences: Mapping[str, float], exchanged: Mapping[str, FloatArray]) -> dict[str, float]:
    """The p-value of each difference corrected for their number: how often chance gives any metric one as small.

    The differences seen count as one draw more, so that a p-value of a draw and that of what was seen are ranks among
    the same 1 + D values. The draws are the same for all metrics, so that their dependence counts: metrics that say
    nearly the same cost nearly nothing. Calling corrected values below 0.05 real is wrong about any of them in at most
    5% of comparisons, for any number of draws.
    Source: Westfall and Young 1993, Resampling-Based Multiple Testing (single-step minP).

    Args:
        differences: those seen, by metric.
        exchanged: the differences of `exchanged_differences`, by metric, of the same draws.
    """
    if not differences:
        return {}
    p_values = {name: _p_of_each(np.append(exchanged[name], value)) for name, value in differences.items()}
    smallest = np.min(list(p_values.values()), axis=0)
    return {name: float(np.mean(smallest <= found[-1] + _ROUNDING)) for name, found in p_values.items()}


def _p_of_each(differences: FloatArray) -> FloatArray:
    """The share of the differences that are as far from 0 as each of them, or farther."""
    size = np.round(np.abs(differences), 9)
    farther = len(size) - np.searchsorted(np.sort(size), size, side="left")
    return np.asarray(farther / len(size), dtype=np.float64)


def _of_both(
    first: pd.DataFrame, second: pd.DataFrame, group: np.ndarray, num_groups: int, names: Collection[str]
) -> Weighted:
    """The metrics of the rows of both tables; each lesion is two groups, one for each table."""
    both = pd.concat([first, second], ignore_index=True)
    areas = [name for name in names if name.partition("/")[0] in {_AREA, AUROC_MACRO}]
    others = [name for name in names if name not in areas]
    parts = [weighted_metrics(both, group, num_groups, others)] if others else []
    if areas:
        parts.append(_areas(first, second, group, num_groups, areas))
    return merged(("", part) for part in parts)


def _areas(
    first: pd.DataFrame, second: pd.DataFrame, group: np.ndarray, num_groups: int, names: Collection[str]
) -> Weighted:
    classes = classes_of(first)
    asked = {name.partition("/")[2] for name in names} - {""} | (set(classes) if AUROC_MACRO in names else set())
    parts = []
    for target in sorted(asked):
        ranks = np.concatenate([stats.rankdata(scores_of(table, target)[0]) for table in (first, second)])
        positive = np.tile(scores_of(first, target)[1], 2)
        found = ranking_metrics(ranks, positive, group, num_groups, (_AREA,))
        parts.append(found.renamed({_AREA: f"{_AREA}/{target}"}))
    found = merged(("", part) for part in parts)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values = found(weights)
        if AUROC_MACRO in names:
            values[AUROC_MACRO] = mean_of_determined(np.stack([values[f"{_AREA}/{name}"] for name in classes]))
        return {name: values[name] for name in names}

    return Weighted(at)


def _coins(num_lesions: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """0 or 1 for each lesion in each draw, float64 (lesions, at most `draws`), block by block; the size of the blocks
    is no part of the result."""
    rng = np.random.default_rng([seed, 0xE])
    size = max(_MAX_CELLS // num_lesions, 1)
    for start in range(0, draws, size):
        width = min(size, draws - start)
        yield rng.integers(0, 2, (width, num_lesions)).T.astype(np.float64)
