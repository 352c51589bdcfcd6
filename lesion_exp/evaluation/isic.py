"""The scores of the ISIC challenges as the organisers compute them, under their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from lesion_exp.evaluation.confusion import Weighted, mean_of_determined
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of, probabilities, true_classes
from lesion_exp.evaluation.ranking import AUC_SENS_80, PAUC_2024, BoolArray, ranking_metrics, ranking_of_classes

_AT_HALF: Final = ("accuracy", "sensitivity", "specificity", "dice", "ppv", "npv")
_RANKED: Final = {"auc": "auroc", "ap": "average_precision", AUC_SENS_80: AUC_SENS_80, PAUC_2024: PAUC_2024}
_MACRO: Final = (*_AT_HALF, "auc", "ap", AUC_SENS_80)
MACRO: Final = "macro"
_THRESHOLD: Final = 0.5


def isic_metrics(table: pd.DataFrame) -> dict[str, float]:
    """The scores of `weighted_isic_metrics` for the table itself; what is not determined is left out."""
    at = weighted_isic_metrics(table, np.arange(len(table)), len(table))
    return {name: float(value[0]) for name, value in at(np.ones((len(table), 1))).items() if not np.isnan(value[0])}


def weighted_isic_metrics(
    table: pd.DataFrame, group: IntArray, num_groups: int, ranked: Sequence[Weighted] | None = None
) -> Weighted:
    """The organisers' scores of `table` as a function of the weights of groups of its images.

    - `balanced_accuracy`, the score of ISIC 2018 Task 3 and 2019: the mean recall over the classes present, where an
      image whose highest probability is shared by several classes is undecided, and so counts as wrong;
    - a class, from "probability above 0.5": `accuracy/mel`, `sensitivity/mel`, `specificity/mel`, `dice/mel`,
      `ppv/mel`, `npv/mel`, each 1 where its denominator is 0;
    - a class, from the order: `auc/mel`, `ap/mel`, `auc_sens_80/mel`, and `pauc_2024/mel` (see `ranking`);
    - `<score>/macro`, the mean over classes of each but the last (see `mean_name`);
    - `auc/malignant` and `pauc_2024/malignant`, the score of ISIC 2024, also for a table over several diagnoses.

    Source: github.com/ImageMarkup/isic-challenge-scoring (`metrics.py`, `classification.py`), and the code that
    kaggle.com/competitions/isic-2024-challenge publishes as its metric.

    Args:
        table: predictions table.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        ranked: `ranking_of_classes` of the table, where somebody else has it too.
    """
    classes, true, probs = classes_of(table), true_classes(table), probabilities(table)
    recall = _recall_without_ties(true, probs, group, num_groups)
    half = [_at_half(probs[:, c], true == c, group, num_groups) for c in range(len(classes))]
    ranked = ranked or ranking_of_classes(probs, true, group, num_groups)
    malignant = _malignant(table, classes, group, num_groups)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        values = {"balanced_accuracy": mean_of_determined(recall(weights))}
        for name, at_half, at_ranks in zip(classes, half, ranked, strict=True):
            ranks = at_ranks(weights)
            values |= {f"{family}/{name}": value for family, value in at_half(weights).items()}
            values |= {f"{family}/{name}": ranks[own] for family, own in _RANKED.items()}
        for family in _MACRO:
            values[f"{family}/{mean_name(classes)}"] = mean_of_determined(
                np.stack([values[f"{family}/{name}"] for name in classes])
            )
        return values | (malignant(weights) if malignant else {})

    return at


def mean_name(classes: Sequence[str]) -> str:
    """What the mean over `classes` is called: `macro`, unless one of them is."""
    return MACRO if MACRO not in classes else f"{MACRO} mean"


def _malignant(table: pd.DataFrame, classes: Sequence[str], group: IntArray, num_groups: int) -> Weighted | None:
    view = None if MALIGNANT in classes else malignant_view(table)
    if view is None:
        return None
    positive = (view["label"] == MALIGNANT).to_numpy()
    scores = view[f"p_{MALIGNANT}"].to_numpy(dtype=np.float64)
    at = ranking_metrics(scores, positive, group, num_groups, ("auroc", PAUC_2024))

    def renamed(weights: FloatArray) -> dict[str, FloatArray]:
        values = at(weights)
        return {f"auc/{MALIGNANT}": values["auroc"], f"{PAUC_2024}/{MALIGNANT}": values[PAUC_2024]}

    return renamed


def _recall_without_ties(true: IntArray, probs: FloatArray, group: IntArray, num_groups: int) -> _Shares:
    is_highest = probs == probs.max(axis=1, keepdims=True)
    hit = (is_highest.sum(axis=1) == 1) & is_highest[np.arange(len(true)), true]
    return _Shares(true, hit, group, (probs.shape[1], num_groups))


class _Shares:
    """The share of hits in each class, float64 (C, D), NaN where a class has no image."""

    def __init__(self, true: IntArray, hit: BoolArray, group: IntArray, shape: tuple[int, int]) -> None:
        self._hits = csr_array((hit.astype(np.float64), (true, group)), shape=shape)
        self._all = csr_array((np.ones(len(true)), (true, group)), shape=shape)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return _ratio(self._hits @ weights, self._all @ weights, np.nan)


def _at_half(scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int) -> Weighted:
    predicted = scores > _THRESHOLD
    cells = 2 * positive.astype(np.int64) + predicted
    counting = csr_array((np.ones(len(cells)), (cells, group)), shape=(4, num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        tn, fp, fn, tp = counting @ weights
        return {
            "accuracy": _ratio(tp + tn, tn + fp + fn + tp),
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "dice": _ratio(2 * tp, 2 * tp + fp + fn),
            "ppv": _ratio(tp, tp + fp),
            "npv": _ratio(tn, tn + fn),
        }

    return at


def _ratio(part: FloatArray, whole: FloatArray, otherwise: float = 1.0) -> FloatArray:
    ratios: FloatArray = np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0)
    return ratios
