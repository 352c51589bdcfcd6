"""Paired randomization tests of two models on the same images, which keep their level for any number of images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from lesion_exp.evaluation.confusion import nan_mean
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.malignant_view import scores_of
from lesion_exp.evaluation.metrics import metrics_and_added
from lesion_exp.evaluation.predictions import FloatArray, classes_of
from lesion_exp.evaluation.ranking import ranking_metrics
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Score, Weighted, merged

_AREA: Final = "auroc"
_MAX_CELLS: Final = 1_000_000
_ROUNDING: Final = 1e-9


def exchanged_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: Collection[str],
    draws: int = 2000,
    seed: int = 0,
    added: Mapping[str, Score] | None = None,
) -> dict[str, FloatArray]:
    """Returns the differences of each metric, first minus second, under random exchange, float64 (D,).

    Under the null hypothesis that neither model is better, the predictions of the two are exchangeable. Each draw
    exchanges them on random lesions, each with probability 1/2 and with all its images. The differences of the draws
    are the null distribution, for any metric and any number of images (Noreen 1989, Computer-Intensive Methods for
    Testing Hypotheses; Yeh 2000, doi:10.3115/992730.992783, for precision and F1). The scores of the models may have
    different scales, so for areas under the ROC curve the ranks of the scores are exchanged (Bandos et al. 2005,
    doi:10.1002/sim.2149).

    Args:
        first: predictions table.
        second: predictions table with the same rows in the same order (see `pairing.aligned`).
        names: the names of the metrics.
        draws: D.
        seed: seed of the draws, which also depend on the number of lesions.
        added: further metrics, by those of `names` that have no function here.
    """
    lesion, num_lesions = lesion_of(first)
    both = np.concatenate([lesion, lesion + num_lesions])
    metrics = _of_both(first, second, both, 2 * num_lesions, names, added or {})
    blocks: list[dict[str, FloatArray]] = []
    for kept in _coins(num_lesions, draws, seed):
        one, two = metrics(np.concatenate([kept, 1 - kept])), metrics(np.concatenate([1 - kept, kept]))
        blocks.append({name: one[name] - two[name] for name in names})
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def randomization_p(difference: float, exchanged: FloatArray) -> float:
    """Returns the two-sided p-value of a difference: (1 + number of draws at least as far from 0) / (1 + draws).

    It is never 0: the smallest value with 2000 draws is 0.0005.
    Source: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    farther = np.count_nonzero(np.abs(exchanged) >= abs(difference) - _ROUNDING)
    return float(1 + farther) / (1 + len(exchanged))


def family_p(differences: Mapping[str, float], exchanged: Mapping[str, FloatArray]) -> dict[str, float]:
    """Returns the p-value of each difference, corrected for the number of metrics.

    A corrected p-value is the share of draws in which any metric has a p-value as small as the observed one. The
    observed differences count as one further draw, so that the p-values of draws and of the observation are ranks among
    the same 1 + D values. All metrics share their draws, which takes their dependence into account: highly correlated
    metrics hardly increase the correction. If values below 0.05 are called significant, at most 5% of comparisons have
    any false finding, for any number of draws.
    Source: Westfall and Young 1993, Resampling-Based Multiple Testing (single-step minP).

    Args:
        differences: the observed differences, by metric.
        exchanged: the differences of `exchanged_differences`, by metric, of the same draws.
    """
    if not differences:
        return {}
    p_values = {name: _p_of_each(np.append(exchanged[name], value)) for name, value in differences.items()}
    smallest = np.min(list(p_values.values()), axis=0)
    return {name: float(np.mean(smallest <= found[-1] + _ROUNDING)) for name, found in p_values.items()}


def _p_of_each(differences: FloatArray) -> FloatArray:
    """Returns, for each difference, the share of all differences that are at least as far from 0."""
    size = np.round(np.abs(differences), 9)
    farther = len(size) - np.searchsorted(np.sort(size), size, side="left")
    return np.asarray(farther / len(size), dtype=np.float64)


def _of_both(
    first: pd.DataFrame,
    second: pd.DataFrame,
    group: np.ndarray,
    num_groups: int,
    names: Collection[str],
    added: Mapping[str, Score],
) -> Weighted:
    """Returns the metrics of the rows of both tables. Each lesion is two groups, one for each table."""
    both = pd.concat([first, second], ignore_index=True)
    areas = [name for name in names if name.partition("/")[0] in {_AREA, AUROC_MACRO}]
    others = [name for name in names if name not in areas]
    parts = [metrics_and_added(both, group, num_groups, others, added)] if others else []
    if areas:
        parts.append(_areas(first, second, group, num_groups, areas))
    return merged(("", part) for part in parts)


def _areas(
    first: pd.DataFrame, second: pd.DataFrame, group: np.ndarray, num_groups: int, names: Collection[str]
) -> Weighted:
    """Returns the areas under the ROC curve of the rows of both tables, from the ranks of the scores within each
    table.
    """
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
            values[AUROC_MACRO] = nan_mean(np.stack([values[f"{_AREA}/{name}"] for name in classes]))
        return {name: values[name] for name in names}

    return Weighted(at)


def _coins(num_lesions: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """Yields 0 or 1 for each lesion in each draw, float64 (lesions, draws of the block), block by block.

    The size of the blocks does not change the draws.
    """
    rng = np.random.default_rng([seed, 0xE])
    size = max(_MAX_CELLS // num_lesions, 1)
    for start in range(0, draws, size):
        width = min(size, draws - start)
        yield rng.integers(0, 2, (width, num_lesions)).T.astype(np.float64)
