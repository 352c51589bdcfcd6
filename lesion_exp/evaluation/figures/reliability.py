"""Reliability diagrams: the accuracy of predictions as a function of their confidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lesion_exp.evaluation.calibration import NUM_BINS, ReliabilityBins, bin_of, reliability_bins
from lesion_exp.evaluation.figures.style import GREY, PALETTE, style
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.limits import LEAST_LESIONS, Limits, proportion_limits
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import IntArray, predicted_classes, probabilities, true_classes

_FAINT: Final = 0.35
"""The opacity of bars that rest on too few lesions."""
_GAP_LOOKS: Final[Any] = {"facecolor": "none", "edgecolor": PALETTE[1], "hatch": "////", "linewidth": 0.8}


def reliability_diagram(table: pd.DataFrame, title: str = "") -> Figure:
    """Draws accuracy over confidence in 15 equal bins, with the expected calibration error and the images of each bin.

    Each bin has a 95% interval over lesions; bins with fewer than 20 lesions are faint. A note gives the error that a
    perfectly calibrated model would have on these images.
    """
    with style():
        figure = Figure(figsize=(7.4, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        _draw(upper, lower, table, title or "reliability")
        upper.set_ylabel("accuracy")
        figure.legend(handles=_handles([upper]), loc="outside right upper")
        lower.set_ylabel("images")
    return figure


def reliability_before_and_after(before: pd.DataFrame, after: pd.DataFrame, method: str, title: str = "") -> Figure:
    """Draws the reliability diagrams before and after the calibration `method` side by side."""
    with style():
        figure = Figure(figsize=(10.6, 5.8), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(2, 2, height_ratios=[4, 1], sharex=True, sharey="row")
        _draw(grid[0][0], grid[1][0], before, "as predicted")
        _draw(grid[0][1], grid[1][1], after, f"after {method} scaling" if method != "isotonic" else "after isotonic")
        grid[0][0].set_ylabel("accuracy")
        figure.legend(handles=_handles(grid[0]), loc="outside right upper")
        grid[1][0].set_ylabel("images")
    return figure


def bin_limits(table: pd.DataFrame) -> tuple[list[Limits | None], IntArray]:
    """Returns the accuracy of each bin with its 95% interval over lesions, None for an empty bin, and the number of
    lesions in each bin."""
    lesion, num_lesions = lesion_of(table)
    place = bin_of(probabilities(table).max(axis=1))
    right = (true_classes(table) == predicted_classes(table)).astype(np.float64)
    limits: list[Limits | None] = []
    lesions = np.zeros(NUM_BINS, dtype=np.int64)
    for number in range(NUM_BINS):
        mine = place == number
        whole = np.bincount(lesion[mine], minlength=num_lesions).astype(np.float64)
        part = np.bincount(lesion[mine], right[mine], minlength=num_lesions).astype(np.float64)
        lesions[number] = np.count_nonzero(whole)
        limits.append(proportion_limits(part, whole) if mine.any() else None)
    return limits, lesions


def _draw(upper: Axes, lower: Axes, table: pd.DataFrame, name: str) -> None:
    bins = reliability_bins(probabilities(table), true_classes(table))
    limits, lesions = bin_limits(table)
    middles, width = (bins.edges[:-1] + bins.edges[1:]) / 2, 0.92 * (bins.edges[1] - bins.edges[0])
    _bars(upper, bins, middles, width, lesions)
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


def _bars(axes: Axes, bins: ReliabilityBins, middles: np.ndarray, width: float, lesions: IntArray) -> None:
    accuracy = np.nan_to_num(bins.accuracy)
    gap = np.nan_to_num(bins.confidence - bins.accuracy)
    shares = axes.bar(middles, accuracy, width=width, color=PALETTE[5])
    gaps = axes.bar(middles, gap, bottom=accuracy, width=width, **_GAP_LOOKS)
    for number, count in enumerate(lesions):
        if 0 < count < LEAST_LESIONS:
            shares[number].set_alpha(_FAINT)
            gaps[number].set_alpha(_FAINT)


def _handles(panels: Iterable[Axes]) -> list[Artist]:
    """The handles of the legend; those of faint bars only if a panel has one."""
    handles: list[Artist] = [
        Patch(color=PALETTE[5], label="share of right predictions"),
        Patch(label="gap to the confidence", **_GAP_LOOKS),
        Line2D([], [], color="black", linewidth=1.1, label="95% interval of the share"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=":", label="perfect calibration"),
    ]
    if any(bar.get_alpha() is not None for axes in panels for bar in axes.patches):
        handles.append(Patch(color=PALETTE[5], alpha=_FAINT, label=f"faint: fewer than {LEAST_LESIONS} lesions"))
    return handles
