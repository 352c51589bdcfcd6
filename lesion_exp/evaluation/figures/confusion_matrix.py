"""The confusion matrix, as counts and as shares of each true class, side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lesion_exp.evaluation.figures.style import shortened, style
from lesion_exp.evaluation.predictions import FloatArray, classes_of
from lesion_exp.evaluation.report import confusion_counts

_WHITE_TO_BLUE = LinearSegmentedColormap.from_list("white_to_blue", ["#FFFFFF", "#9FC9E3", "#2F7EBB", "#08306B"])


def confusion_matrix(table: pd.DataFrame, title: str = "") -> Figure:
    """Counts at the left; at the right each row in percent of its sum, so that the diagonal shows the recall.

    Both are shaded by the share of the true class. A dash stands in the rows of classes without images.
    """
    classes = classes_of(table)
    counts = confusion_counts(table).astype(np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    names = [shortened(name, 16) for name in classes]
    side = max(3.4, 0.52 * len(classes) + 1.2)
    with style():
        figure = Figure(figsize=(2 * side + 0.9, side + 0.6), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
        left, right = figure.subplots(1, 2)
        _panel(left, shares, [[f"{int(value):,}" for value in row] for row in counts], names, "images")
        left.set_yticks(range(len(names)), [f"{name} ({int(n):,})" for name, n in zip(names, rows[:, 0], strict=True)])
        texts = [[_percent(value) if n else "–" for value in row] for row, n in zip(shares, rows[:, 0], strict=True)]
        _panel(right, shares, texts, names, "percent of the true class")
        right.set_ylabel("")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _panel(axes: Axes, shares: FloatArray, texts: list[list[str]], names: list[str], title: str) -> None:
    axes.imshow(shares, cmap=_WHITE_TO_BLUE, vmin=0, vmax=1)
    ticks = range(len(names))
    turned = max(map(len, names)) > (12 if len(names) <= 3 else 5)
    axes.set_xticks(ticks, names)
    if turned:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#E6E6E6", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    size = 9 if len(names) <= 8 else 8
    for row, column in np.ndindex(shares.shape):
        text, share = texts[row][column], shares[row, column]
        colour = "white" if share > 0.5 else "#8A939C" if text in {"0", "–"} else "black"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size, fontweight=weight)
    for place in ticks:
        axes.add_patch(
            Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor="#08306B", linewidth=1.0, zorder=3)
        )


def _percent(share: float) -> str:
    return "0" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"
