"""The reliability diagram: how often predictions of a confidence are right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.calibration import reliability_bins
from lesion_exp.evaluation.figures.style import GREY, PALETTE, style
from lesion_exp.evaluation.predictions import probabilities, true_classes


def reliability_diagram(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy over confidence in 15 equal bins, with the expected calibration error and the images of each bin."""
    with style():
        figure = Figure(figsize=(4.8, 5.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        _draw(upper, lower, table, title or "reliability")
        upper.set_ylabel("accuracy")
        upper.legend(loc="upper left")
        lower.set_ylabel("images")
    return figure


def reliability_before_and_after(before: pd.DataFrame, after: pd.DataFrame, method: str, title: str = "") -> Figure:
    """The diagrams of predictions as the network made them and after the calibration `method`, side by side."""
    with style():
        figure = Figure(figsize=(8.6, 5.6), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(2, 2, height_ratios=[4, 1], sharex=True, sharey="row")
        _draw(grid[0][0], grid[1][0], before, "as predicted")
        _draw(grid[0][1], grid[1][1], after, f"after {method} scaling" if method != "isotonic" else "after isotonic")
        grid[0][0].set_ylabel("accuracy")
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        grid[1][0].set_ylabel("images")
    return figure


def _draw(upper: Axes, lower: Axes, table: pd.DataFrame, name: str) -> None:
    bins = reliability_bins(probabilities(table), true_classes(table))
    middles, width = (bins.edges[:-1] + bins.edges[1:]) / 2, bins.edges[1] - bins.edges[0]
    accuracy = np.nan_to_num(bins.accuracy)
    gap = np.nan_to_num(bins.confidence - bins.accuracy)
    upper.bar(middles, accuracy, width=0.92 * width, color=PALETTE[5], label="share of right predictions")
    upper.bar(
        middles,
        gap,
        bottom=accuracy,
        width=0.92 * width,
        facecolor="none",
        edgecolor=PALETTE[1],
        hatch="////",
        linewidth=0.8,
        label="gap to the confidence",
    )
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    upper.set(title=f"{name}: ECE {bins.ece:.3f}", xlim=(0, 1), ylim=(0, 1))
    lower.bar(middles, bins.counts, width=0.92 * width, color=GREY)
    lower.set(xlabel="confidence (highest probability)")
