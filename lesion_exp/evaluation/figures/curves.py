"""ROC, precision-recall, decision and reliability curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lesion_exp.evaluation.calibration import NUM_BINS, ReliabilityBins, bin_of, reliability_bins
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
from lesion_exp.evaluation.intervals import Unit, units_of
from lesion_exp.evaluation.lesion_counts import TOO_FEW, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS, Limits, proportion_limits
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.ranking import precision_recall_points, roc_points
from lesion_exp.evaluation.registry import AUROC_MACRO

_NAME_LENGTH: Final = 26
"""The largest number of letters in each of the two lines of a name."""
_COLUMNS: Final = 5
_PANEL: Final = 2.0
"""The side of the panel of a class with its title, in inches."""
_FAINT: Final = 0.35
"""The opacity of bars that rest on too few lesions."""
_GAP_LOOKS: Final[Any] = {"facecolor": "none", "edgecolor": PALETTE[1], "hatch": "////", "linewidth": 0.8}


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
        return images if self.is_enough else f"{images}, {TOO_FEW} lesions"


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


def reliability_diagram(table: pd.DataFrame, title: str = "", unit: Unit = "lesion") -> Figure:
    """Draws accuracy over confidence in 15 equal bins, with the expected calibration error and the images of each bin.

    Each bin has a 95% interval over lesions or patients; bins with fewer than 20 of these are faint. A note gives the
    error that a perfectly calibrated model would have on these images.
    """
    with style():
        figure = Figure(figsize=(7.4, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        _draw(upper, lower, table, title or "reliability", unit)
        upper.set_ylabel("accuracy")
        figure.legend(handles=_handles([upper], unit), loc="outside right upper")
        lower.set_ylabel("images")
    return figure


def reliability_before_and_after(
    before: pd.DataFrame, after: pd.DataFrame, method: str, title: str = "", unit: Unit = "lesion"
) -> Figure:
    """Draws the reliability diagrams before and after the calibration `method` side by side."""
    with style():
        figure = Figure(figsize=(10.6, 5.8), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(2, 2, height_ratios=[4, 1], sharex=True, sharey="row")
        _draw(grid[0][0], grid[1][0], before, "as predicted", unit)
        name = f"after {method} scaling" if method != "isotonic" else "after isotonic"
        _draw(grid[0][1], grid[1][1], after, name, unit)
        grid[0][0].set_ylabel("accuracy")
        figure.legend(handles=_handles(grid[0], unit), loc="outside right upper")
        grid[1][0].set_ylabel("images")
    return figure


def bin_limits(table: pd.DataFrame, unit: Unit = "lesion") -> tuple[list[Limits | None], IntArray]:
    """Returns the accuracy of each bin with its 95% interval over lesions or patients, None for an empty bin, and the
    number of these in each bin."""
    group, num_groups = units_of(table, unit)
    place = bin_of(probabilities(table).max(axis=1))
    right = (true_classes(table) == predicted_classes(table)).astype(np.float64)
    limits: list[Limits | None] = []
    units = np.zeros(NUM_BINS, dtype=np.int64)
    for number in range(NUM_BINS):
        mine = place == number
        whole = np.bincount(group[mine], minlength=num_groups).astype(np.float64)
        part = np.bincount(group[mine], right[mine], minlength=num_groups).astype(np.float64)
        units[number] = np.count_nonzero(whole)
        limits.append(proportion_limits(part, whole) if mine.any() else None)
    return limits, units


def _draw(upper: Axes, lower: Axes, table: pd.DataFrame, name: str, unit: Unit) -> None:
    bins = reliability_bins(probabilities(table), true_classes(table))
    limits, units = bin_limits(table, unit)
    middles, width = (bins.edges[:-1] + bins.edges[1:]) / 2, 0.92 * (bins.edges[1] - bins.edges[0])
    _bars(upper, bins, middles, width, units)
    known = [(middle, found) for middle, found in zip(middles, limits, strict=True) if found is not None]
    upper.vlines(
        [middle for middle, _ in known], [found.low for _, found in known], [found.high for _, found in known],
        color="black", linewidth=1.1, zorder=4,
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=":")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_title(f"{name}: ECE {bins.ece:.3f}", pad=17)
    by_chance = f"a perfectly calibrated model would show {metrics(table)['ece_of_calibrated']:.3f} on these images"
    upper.text(0, 1.015, by_chance, transform=upper.transAxes, fontsize=7.5, va="bottom")
    drawn = lower.bar(middles, bins.counts, width=width, color=GREY)
    lower.bar_label(drawn, [f"{count:,}" if count else "" for count in bins.counts], padding=1, fontsize=6)
    lower.set(xlabel="confidence (highest probability)", ylim=(0, 1.25 * bins.counts.max()))


def _bars(axes: Axes, bins: ReliabilityBins, middles: np.ndarray, width: float, units: IntArray) -> None:
    accuracy = np.nan_to_num(bins.accuracy)
    gap = np.nan_to_num(bins.confidence - bins.accuracy)
    shares = axes.bar(middles, accuracy, width=width, color=PALETTE[5])
    gaps = axes.bar(middles, gap, bottom=accuracy, width=width, **_GAP_LOOKS)
    for number, count in enumerate(units):
        if 0 < count < LEAST_LESIONS:
            shares[number].set_alpha(_FAINT)
            gaps[number].set_alpha(_FAINT)


def _handles(panels: Iterable[Axes], unit: Unit) -> list[Artist]:
    """Returns the handles of the legend; those of faint bars only if a panel has one."""
    handles: list[Artist] = [
        Patch(color=PALETTE[5], label="share of right predictions"),
        Patch(label="gap to the confidence", **_GAP_LOOKS),
        Line2D([], [], color="black", linewidth=1.1, label="95% interval of the share"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=":", label="perfect calibration"),
    ]
    if any(bar.get_alpha() is not None for axes in panels for bar in axes.patches):
        handles.append(Patch(color=PALETTE[5], alpha=_FAINT, label=f"faint: fewer than {LEAST_LESIONS} {unit}s"))
    return handles
