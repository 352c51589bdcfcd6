"""The points of ROC and precision-recall curves, so that the area under what is drawn is the number beside it."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from lesion_exp.evaluation.predictions import BoolArray, FloatArray


def roc_points(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """1 - specificity and sensitivity, both rising from 0 to 1; joined by straight lines they enclose the AUROC.

    Args:
        scores: float64 (N,), higher for positives.
        positive: bool (N,).
    """
    false_positive, true_positive, _ = roc_curve(positive, scores)
    return false_positive, true_positive


def precision_recall_points(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Recall, rising from 0, and precision; joined by straight lines they enclose the average precision.

    The average precision gives each rise of the recall the precision that is reached at its end, so the curve is a
    staircase whose steps lie to the left of their points.
    """
    precision, recall, _ = precision_recall_curve(positive, scores)
    return np.repeat(recall[::-1], 2)[:-1], np.repeat(precision[::-1], 2)[1:]
