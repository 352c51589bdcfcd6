"""The confusion matrix: counts, coloured by the share of the true class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from lesion_exp.evaluation.classification_report import confusion_counts
from lesion_exp.evaluation.figures.style import NUMBERED_FROM, labels, readable_on, style
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of

_WHITE_TO_BLUE = LinearSegmentedColormap.from_list("white_to_blue", ["#FFFFFF", "#9FC9E3", "#2F7EBB", "#08306B"])
_MOST_LEVEL = 3
"""With more classes, long names below the columns are rotated."""
_FAINT = "#5F6871"
"""The colour of zeros; its contrast is 5.7 to 1 on white."""


def confusion_matrix(table: pd.DataFrame, title: str = "") -> Figure:
    """Draws the counts on the left, and on the right each row in percent of its sum, with the recalls on the diagonal.

    The colour of a cell is its share of the true class. Rows of classes without images have dashes. With 13 or more
    classes there is one panel with the counts, without zeros, and the recall on the right of each row. Its columns have
    numbers instead of names, which also precede the names of the rows.
    """
    classes = classes_of(table)
    counts = confusion_counts(table).astype(np.int64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    with style():
        draw = _numbered if len(classes) >= NUMBERED_FROM else _side_by_side
        figure = draw(classes, counts, shares)
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _side_by_side(classes: Sequence[str], counts: IntArray, shares: FloatArray) -> Figure:
    rows = counts.sum(axis=1)
    rows_named, columns_named = labels(classes, 16, _name_lines(len(classes))), _column_names(classes)
    side = max(3.4, 0.52 * len(classes) + 1.2)
    if len(classes) <= _MOST_LEVEL and any("\n" in name for name in columns_named):
        side = 5.0
    figure = Figure(figsize=(2 * side + 1.7, side + 0.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    left, right = figure.subplots(1, 2)
    size = 9 if len(classes) <= 8 else 8
    _panel(left, shares, [[f"{value:,}" for value in row] for row in counts], size)
    texts = [[_percent(value) if n else "–" for value in row] for row, n in zip(shares, rows, strict=True)]
    _key(figure, [left, right], _panel(right, shares, texts, size))
    turned = len(classes) > _MOST_LEVEL and max(len(row) for name in columns_named for row in name.split("\n")) > 5
    for axes in (left, right):
        axes.set_xticks(range(len(classes)), columns_named)
        if turned:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
    left.set_yticks(range(len(classes)), [f"{name} ({n:,})" for name, n in zip(rows_named, rows, strict=True)])
    right.set_yticks(range(len(classes)), rows_named)
    left.set(title="images", xlabel="predicted", ylabel="true (images)")
    right.set(title="percent of the true class", xlabel="predicted")
    return figure


def _name_lines(num_classes: int) -> int:
    """Returns the number of lines of text that fit into a row of cells."""
    return 4 if num_classes <= _MOST_LEVEL else 3 if num_classes <= 7 else 2


def _column_names(classes: Sequence[str]) -> list[str]:
    """Returns names below the columns: for few classes as wide as a column, else in at most two lines, which are
    rotated.
    """
    if len(classes) <= _MOST_LEVEL:
        return labels(classes, 36 // max(len(classes), 2), 4)
    return labels(classes, 16, 2)


def _numbered(classes: Sequence[str], counts: IntArray, shares: FloatArray) -> Figure:
    number = len(classes)
    cell, size = (0.3, 6.5) if number <= 30 else (0.2, 4.6)
    side = cell * number
    names = labels(classes, 36)
    figure = Figure(figsize=(side + 2.4 + 0.075 * max(map(len, names)), side + 1.5), layout="constrained")
    axes = figure.subplots()
    texts = [[str(value) if value else "" for value in row] for row in counts]
    _key(figure, [axes], _panel(axes, shares, texts, size))
    rows = counts.sum(axis=1)
    named = [f"{name} ({n:,})  {place}" for place, (name, n) in enumerate(zip(names, rows, strict=True), 1)]
    axes.set_xticks(range(number), [str(place) for place in range(1, number + 1)], fontsize=size)
    axes.set_yticks(range(number), named, fontsize=max(size, 6))
    axes.tick_params(labeltop=True)
    for place, total in enumerate(rows):
        recall = f"{shares[place, place]:.0%}" if total else "–"
        axes.text(number - 0.3, place, recall, fontsize=max(size, 6), va="center")
    axes.text(number - 0.3, -0.9, "recall", fontsize=7, fontweight="bold", va="center")
    axes.set(
        title="images; an empty cell is 0",
        xlabel="predicted: the number of the class",
        ylabel="true: class (images) and its number",
    )
    return figure


def _panel(axes: Axes, shares: FloatArray, texts: list[list[str]], size: float) -> AxesImage:
    image = axes.imshow(shares, cmap=_WHITE_TO_BLUE, vmin=0, vmax=1)
    number = len(shares)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#E6E6E6", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    for row, column in np.ndindex(shares.shape):
        text = texts[row][column]
        if not text:
            continue
        colour = _FAINT if text in {"0", "–"} else readable_on(_WHITE_TO_BLUE(float(shares[row, column])))
        weight = "bold" if row == column else "normal"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size, fontweight=weight)
    for place in range(number):
        axes.add_patch(
            Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor="#08306B", linewidth=1.0, zorder=3)
        )
    return image


def _key(figure: Figure, panels: list[Axes], image: AxesImage) -> None:
    """Draws the colour bar, which is the same for all panels."""
    bar = figure.colorbar(image, ax=panels, shrink=0.7, aspect=25, pad=0.02, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0%", "25%", "50%", "75%", "100%"])
    bar.set_label("share of the true class", fontsize=8)
    bar.outline.set_visible(False)


def _percent(share: float) -> str:
    return "0" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"
