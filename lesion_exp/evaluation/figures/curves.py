"""ROC and precision-recall curves, one a class against the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from lesion_exp.evaluation.figures.style import GREY, class_colours, square_axes, style
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import FloatArray, classes_of, probabilities, true_classes

Curve = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


def roc_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Sensitivity over 1 - specificity, with the area of each class in the legend."""

    def curve(true: FloatArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
        false_positive, true_positive, _ = roc_curve(true, score)
        return false_positive, true_positive

    with style():
        labels = (title or "ROC curves", "1 - specificity", "sensitivity")
        figure = _curves(table, curve, labels, "auroc", "AUROC")
        figure.axes[0].plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    return figure


def precision_recall_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Precision over recall, with the average precision of each class in the legend."""

    def curve(true: FloatArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
        precision, recall, _ = precision_recall_curve(true, score)
        return recall, precision

    with style():
        labels = (title or "precision-recall curves", "recall", "precision")
        return _curves(table, curve, labels, "average_precision", "AP")


def _curves(table: pd.DataFrame, curve: Curve, labels: tuple[str, str, str], family: str, short: str) -> Figure:
    classes, true, probs = classes_of(table), true_classes(table), probabilities(table)
    areas, colours = metrics(table), class_colours(classes)
    figure, axes = square_axes(*labels)
    for position, name in enumerate(classes):
        positive = true == position
        if f"{family}/{name}" not in areas or not positive.any():
            continue
        horizontal, vertical = curve(positive.astype(np.float64), probs[:, position])
        text = f"{name}  {short} {areas[f'{family}/{name}']:.3f}  (n={int(positive.sum()):,})"
        axes.plot(horizontal, vertical, color=colours[name], linewidth=1.5, label=text)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
