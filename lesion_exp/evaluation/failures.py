"""The wrong and the correct predictions with the highest probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.predictions import IntArray, predicted_classes, probabilities, true_classes


def failures(table: pd.DataFrame, count: int = 50) -> list[dict[str, Any]]:
    """Returns the `count` wrong predictions with the highest probability, highest first, as plain values for JSON."""
    probs, true, predicted = probabilities(table), true_classes(table), predicted_classes(table)
    return [
        {
            "image_id": str(table["image_id"].iloc[row]),
            "label": str(table["label"].iloc[row]),
            "prediction": str(table["prediction"].iloc[row]),
            "probability": round(float(probs[row, predicted[row]]), 4),
            "probability_of_label": round(float(probs[row, true[row]]), 4),
        }
        for row in surest_wrong(table, count)
    ]


def surest_wrong(table: pd.DataFrame, count: int, once_a_lesion: bool = False) -> IntArray:
    """Returns the positions of the `count` wrong predictions with the highest probability, highest first.

    With `once_a_lesion` there is at most one of each lesion.
    """
    predicted = predicted_classes(table)
    wrong = np.flatnonzero(true_classes(table) != predicted)
    order = wrong[np.argsort(-probabilities(table)[wrong, predicted[wrong]], kind="stable")]
    return (first_of_each_lesion(table, order) if once_a_lesion else order)[:count]


def surest_right(table: pd.DataFrame, count: int, once_a_lesion: bool = False) -> IntArray:
    """Returns the positions of `count` correct predictions: the one with the highest probability of each class in turn.

    With `once_a_lesion` there is at most one of each lesion.
    """
    predicted, true = predicted_classes(table), true_classes(table)
    right = np.flatnonzero(true == predicted)
    order = right[np.argsort(-probabilities(table)[right, predicted[right]], kind="stable")]
    if once_a_lesion:
        order = first_of_each_lesion(table, order)
    rank_in_class = pd.Series(true[order]).groupby(true[order]).cumcount().to_numpy()
    return order[np.lexsort((true[order], rank_in_class))][:count]


def first_of_each_lesion(table: pd.DataFrame, positions: IntArray) -> IntArray:
    """Returns `positions` in their order, without those whose lesion occurs at an earlier position."""
    _, first = np.unique(lesion_of(table)[0][positions], return_index=True)
    return positions[np.sort(first)]
