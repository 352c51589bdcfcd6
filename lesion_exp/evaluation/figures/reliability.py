"""The reliability diagram: how often predictions of a confidence are right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lesion_exp.evaluation.calibration import reliability_bins
from lesion_exp.evaluation.figures.style import GREY, PALETTE, style
from lesion_exp.evaluation.predictions import probabilities, true_classes


def reliability_diagram(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy over confidence in 15 equal bins, with the expected calibration error and the images of each bin."""
    bins = reliability_bins(probabilities(table), true_classes(table))
    middles, width = (bins.edges[:-1] + bins.edges[1:]) / 2, bins.edges[1] - bins.edges[0]
    with style():
        figure = Figure(figsize=(4.8, 5.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        accuracy = np.nan_to_num(bins.accuracy)
        upper.bar(middles, accuracy, width=0.92 * width, color=PALETTE[5], label="share of right predictions")
        gap = np.nan_to_num(bins.confidence - bins.accuracy)
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
        name = title or "reliability"
        upper.set(title=f"{name}: ECE {bins.ece:.3f}", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        upper.legend(loc="upper left")
        lower.bar(middles, bins.counts, width=0.92 * width, color=GREY)
        lower.set(xlabel="confidence (highest probability)", ylabel="images")
    return figure
