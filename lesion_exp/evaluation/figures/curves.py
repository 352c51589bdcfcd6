"""ROC, precision-recall and decision curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.decision_curve import DecisionCurve
from lesion_exp.evaluation.figures.style import (
    GREY,
    NUMBERED_FROM,
    PALETTE,
    class_colours,
    class_dashes,
    labels,
    shortened,
    square_axes,
    style,
    to_unit_square,
)
from lesion_exp.evaluation.lesion_counts import TOO_FEW, lesion_counts
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, classes_of, probabilities, true_classes
from lesion_exp.evaluation.ranking import precision_recall_points, roc_points
from lesion_exp.evaluation.registry import AUROC_MACRO

_NAME_LENGTH: Final = 26
"""The largest number of letters in each of the two lines of a name."""
_COLUMNS: Final = 5
_PANEL: Final = 2.0
"""The side of the panel of a class with its title, in inches."""


@dataclass(frozen=True)
class _Curve:
    """The curve of a class."""

    name: str
    positive: BoolArray
    points: tuple[FloatArray, FloatArray]
    area: float
    is_enough: bool
    """Whether the class has enough lesions; if it does not, the legend says so."""

    @property
    def number(self) -> str:
        """The number of images of the class, as text."""
        images = f"n = {np.count_nonzero(self.positive):,}"
        return images if self.is_enough else f"{images}, {TOO_FEW}"


def roc_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Draws sensitivity over 1 - specificity, with the area of each class in the legend.

    With 13 or more classes each class has its own panel. Classes without positives or without negatives have no curve.
    """
    return _figure(table, "auroc", (title or "ROC curves", "1 - specificity", "sensitivity"))


def precision_recall_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """Draws precision over recall, with the average precision of each class in the legend.

    A tick on the right marks the prevalence of each class, which is the precision of guessing, for comparison with its
    curve. With 13 or more classes each class has its own panel, where the prevalence is a dotted line. Classes without
    positives have no curve.
    """
    return _figure(table, "average_precision", (title or "precision-recall curves", "recall", "precision"))


def _figure(table: pd.DataFrame, family: str, words: tuple[str, str, str]) -> Figure:
    classes, true, probs, values = classes_of(table), true_classes(table), probabilities(table), metrics(table)
    points = roc_points if family == "auroc" else precision_recall_points
    counts = lesion_counts(table)
    curves = [
        _Curve(
            name,
            true == position,
            points(probs[:, position], true == position),
            values[f"{family}/{name}"],
            not counts.too_few(f"{family}/{name}"),
        )
        for position, name in enumerate(classes)
        if f"{family}/{name}" in values
    ]
    heading = "AUROC" if family == "auroc" else "average precision"
    if family == "auroc" and AUROC_MACRO in values:
        heading += f", mean {values[AUROC_MACRO]:.3f}"
    with style():
        if len(classes) >= NUMBERED_FROM:
            return _panels(curves, family, words, heading)
        return _one_frame(curves, classes, family, words, heading)


def _one_frame(
    curves: Sequence[_Curve], classes: Sequence[str], family: str, words: tuple[str, str, str], heading: str
) -> Figure:
    names = labels([curve.name for curve in curves], _NAME_LENGTH, 2)
    texts = [f"{name}  {curve.area:.3f}  ({curve.number})" for name, curve in zip(names, curves, strict=True)]
    longest = max(len(line) for text in [*texts, heading] for line in text.split("\n"))
    title, xlabel, ylabel = words
    if family != "auroc":
        xlabel += "\ntick at the right: prevalence, the precision of guessing"
    figure, axes, right = square_axes(title, xlabel, ylabel, legend_width=0.75 + 0.078 * longest)
    colours, dashes = class_colours(classes), class_dashes(classes)
    lines = []
    for curve in curves:
        looks: dict[str, Any] = {"color": colours[curve.name], "linestyle": dashes[curve.name], "linewidth": 1.5}
        lines += axes.plot(*curve.points, **looks)
        if family != "auroc":
            prevalence = [curve.positive.mean()] * 2
            axes.plot([1.015, 1.04], prevalence, color=colours[curve.name], linewidth=2.2, clip_on=False)
    if family == "auroc":
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle=":", zorder=0)
    legend = right.legend(lines, texts, title=heading, loc="center left", alignment="left")
    legend.get_title().set_fontweight("bold")
    return figure


def _panels(curves: Sequence[_Curve], family: str, words: tuple[str, str, str], heading: str) -> Figure:
    """Draws a panel for each class, so that curves need not be distinguished by their colours."""
    rows = ceil(len(curves) / _COLUMNS) or 1
    figure = Figure(figsize=(_PANEL * _COLUMNS, (_PANEL + 0.3) * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    names = labels([curve.name for curve in curves], _NAME_LENGTH, 2)
    for axes, name, curve in zip(grid.flat, names, curves, strict=False):
        _panel(axes, curve, family)
        text = f"{name}\n{curve.area:.3f} ({curve.number})"
        axes.set_title(text, fontsize=7, fontweight="normal", pad=3)
    for axes in grid.flat[len(curves) :]:
        axes.axis("off")
    title, xlabel, ylabel = words
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel, fontsize=7)
    figure.suptitle(f"{title}: {heading}", fontsize=11, fontweight="bold", x=0.01, ha="left")
    guessing = "guessing" if family == "auroc" else "prevalence, the precision of guessing"
    figure.supxlabel(f"{xlabel}; dotted: {guessing}", fontsize=9)
    return figure


def _panel(axes: Axes, curve: _Curve, family: str) -> None:
    axes.plot(*curve.points, color=PALETTE[0], linewidth=1.4)
    guessing = [0.0, 1.0] if family == "auroc" else [float(curve.positive.mean())] * 2
    axes.plot([0, 1], guessing, color=GREY, linewidth=0.9, linestyle=":", zorder=0)
    to_unit_square(axes, [0, 0.5, 1])
    axes.tick_params(labelsize=6)


_NAME: Final = 30
_LINE: Final = 58
"""The largest numbers of letters in the name of the class, and in each line below the decision curve."""


def decision_curve_figure(curve: DecisionCurve, title: str = "") -> Figure:
    """Draws the net benefit of acting on the model, with its 95% band, on everyone, and on no one."""
    model = curve.model
    lowest = min(0.0, min(estimate.low for estimate in model))
    highest = max(0.01, max(estimate.high for estimate in model))
    with style():
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(
            curve.thresholds, [e.low for e in model], [e.high for e in model], color=PALETTE[0], alpha=0.18, linewidth=0
        )
        axes.plot(curve.thresholds, [e.value for e in model], color=PALETTE[0], linewidth=1.8, label="the model")
        axes.plot(curve.thresholds, curve.everyone, color=PALETTE[1], linewidth=1.3, linestyle="--", label="everyone")
        axes.axhline(0, color=GREY, linewidth=1.0, linestyle=":", label="no one")
        name = shortened(curve.target, _NAME)
        threshold = wrap(f"threshold probability of {name}", _LINE)
        axes.set(
            title=title or f"decision curve, {name}",
            xlabel="\n".join(threshold),
            ylabel="net benefit (true positives per image)",
            xlim=(0, max(curve.thresholds)),
            ylim=(lowest - 0.1 * highest, 1.05 * highest),
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, [f"act on {name}" for name in names], loc="outside lower center", ncols=len(names))
    return figure
