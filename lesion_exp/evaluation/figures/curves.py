"""ROC and precision-recall curves, one a class against the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lesion_exp.evaluation.curve_points import precision_recall_points, roc_points
from lesion_exp.evaluation.figures.style import GREY, class_colours, class_dashes, shortened, square_axes, style
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import classes_of, probabilities, true_classes

_NAME_LENGTH = 26


def roc_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Sensitivity over 1 - specificity, with the area of each class in the legend.

    Classes without positives or without negatives have no curve.
    """
    with style():
        figure = _curves(table, "auroc", (title or "ROC curves", "1 - specificity", "sensitivity"))
        figure.axes[0].plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle=":", zorder=0)
    return figure


def precision_recall_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Precision over recall in steps, with the average precision of each class in the legend.

    A tick at the right marks the class's prevalence, which is the precision of guessing: a curve is to be compared
    with its own tick. Classes without positives have no curve.
    """
    with style():
        return _curves(table, "average_precision", (title or "precision-recall curves", "recall", "precision"))


def _curves(table: pd.DataFrame, family: str, labels: tuple[str, str, str]) -> Figure:
    classes, true, probs, values = classes_of(table), true_classes(table), probabilities(table), metrics(table)
    drawn = [position for position, name in enumerate(classes) if f"{family}/{name}" in values]
    names = {position: shortened(classes[position], _NAME_LENGTH) for position in drawn}
    texts = {
        position: f"{name}  {values[f'{family}/{classes[position]}']:.3f}  (n = {np.count_nonzero(true == position):,})"
        for position, name in names.items()
    }
    heading = "AUROC" if family == "auroc" else "average precision"
    if family == "auroc" and "auroc_macro" in values:
        heading += f", mean {values['auroc_macro']:.3f}"
    longest = max(map(len, [*texts.values(), heading]))
    figure, axes, right = square_axes(*labels, legend_width=0.75 + 0.078 * longest)
    colours, dashes = class_colours(classes), class_dashes(classes)
    lines = []
    for position in drawn:
        name, positive = classes[position], true == position
        looks: dict[str, Any] = {"color": colours[name], "linestyle": dashes[name], "linewidth": 1.5}
        points = roc_points if family == "auroc" else precision_recall_points
        lines += axes.plot(*points(probs[:, position], positive), **looks)
        if family != "auroc":
            axes.plot([1.015, 1.04], [positive.mean()] * 2, color=colours[name], linewidth=2.2, clip_on=False)
    legend = right.legend(lines, list(texts.values()), title=heading, loc="center left", alignment="left")
    legend.get_title().set_fontweight("bold")
    return figure
