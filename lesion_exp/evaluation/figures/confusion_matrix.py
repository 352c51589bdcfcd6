"""The confusion matrix, as counts and as shares of each true class, side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.style import style
from lesion_exp.evaluation.predictions import FloatArray, classes_of
from lesion_exp.evaluation.report import confusion_counts


def confusion_matrix(table: pd.DataFrame, title: str = "") -> Figure:
    """Counts at the left; at the right each row divided by its sum, so that the diagonal shows the recall."""
    classes = classes_of(table)
    counts = confusion_counts(table).astype(np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    side = max(3.4, 0.52 * len(classes) + 1.2)
    with style():
        figure = Figure(figsize=(2 * side + 0.6, side + 0.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        _panel(left, shares, [[f"{int(value):,}" for value in row] for row in counts], classes, "images")
        texts = [[f"{value:.0%}" if value else "0" for value in row] for row in shares]
        _panel(right, shares, texts, classes, "share of the true class")
        right.set_ylabel("")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _panel(axes: Axes, shares: FloatArray, texts: list[list[str]], classes: tuple[str, ...], title: str) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(
        ticks, classes, rotation=45 if len(classes) > 3 else 0, ha="right" if len(classes) > 3 else "center"
    )
    axes.set_yticks(ticks, classes)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(0.5, len(classes) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(classes) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    size = 9 if len(classes) <= 8 else 7
    for row, column in np.ndindex(shares.shape):
        colour = "white" if shares[row, column] > 0.55 else "#9AA4AE" if shares[row, column] == 0 else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=size)
