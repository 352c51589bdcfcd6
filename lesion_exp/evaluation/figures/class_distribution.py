"""The class distribution of a split: the number of images of each class in each part."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from lesion_exp.evaluation.figures.style import NUMBERED_FROM, PALETTE, labels, style

PARTS: Final = ("train", "val", "test")
_LEFT_EDGE: Final = 0.8
"""The start of the logarithmic axis, a little left of one image."""
_BAR: Final = 0.26
_MARKERS: Final = ("o", "s", "D")


def class_distribution(table: pd.DataFrame) -> Figure:
    """Draws the number of images of each class in each part, on a logarithmic axis, and the share of each class.

    Numbers of images are points, since a bar on a logarithmic axis has no length that means anything. Up to 12 classes
    have their numbers beside the points, and bars for their shares; more have the three numbers beside their name.

    Args:
        table: split table with `label` and `split`.
    """
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=list(PARTS), fill_value=0).sort_index()
    shares = counts / counts.sum(axis=0).clip(lower=1)
    many = len(counts) >= NUMBERED_FROM
    names = [str(name) for name in counts.index]
    with style():
        row = 0.24 if many else 0.62
        figure = Figure(figsize=(9.0, row * len(counts) + 1.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        (_points if many else _bars)(left, right, counts, shares)
        if many:
            three = [" / ".join(f"{number:,}" for number in row) for row in counts.to_numpy()]
            marked = [f"{name}   {numbers}" for name, numbers in zip(labels(names, 34), three, strict=True)]
            left.set_yticks(range(len(names)), marked, fontsize=7.5)
            left.text(
                -0.03, 1.0, " / ".join(PARTS), transform=left.transAxes, ha="right", va="bottom", fontsize=7.5,
                fontweight="bold",
            )  # fmt: skip
        else:
            left.set_yticks(range(len(names)), labels(names, 26, 2))
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_xscale("log")
        left.set_xlim(_LEFT_EDGE, counts.to_numpy().max() * 4)
        left.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        left.xaxis.set_minor_formatter(NullFormatter())
        left.set(title="images of each class", xlabel="images (logarithmic)")
        widest = shares.to_numpy().max() * 1.2
        right.set_xlim(0, widest)
        right.set_xticks([tick for tick in right.get_xticks() if tick <= min(widest, 1)])
        right.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.1%}".replace(".0%", "%")))
        right.set(title="share of the part", xlabel="share")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=len(PARTS))
    return figure


def _bars(left: Axes, right: Axes, counts: pd.DataFrame, shares: pd.DataFrame) -> None:
    places = np.arange(len(counts))
    for number, part in enumerate(PARTS):
        shift = (number - 1) * _BAR
        colour, some = PALETTE[number], counts[part].to_numpy() > 0  # 0 has no place on a logarithmic axis
        looks: dict[str, Any] = {"color": colour, "s": 22, "marker": _MARKERS[number]}
        left.scatter(counts[part][some], (places + shift)[some], label=f"{part} ({counts[part].sum():,})", **looks)
        for place, count in zip(places + shift, counts[part], strict=True):
            start = (max(count, _LEFT_EDGE), place)
            left.annotate(f"{count:,}", start, (5, 0), textcoords="offset points", va="center", fontsize=7.5)
        bars = right.barh(places + shift, shares[part], height=0.92 * _BAR, color=colour)
        right.bar_label(bars, [f"{value:.1%}" for value in shares[part]], padding=3, fontsize=7.5)


def _points(left: Axes, right: Axes, counts: pd.DataFrame, shares: pd.DataFrame) -> None:
    places = np.arange(len(counts))
    for axes in (left, right):
        axes.grid(axis="y", color="#ECECEC", linewidth=0.7)
        axes.set_axisbelow(True)
    for number, part in enumerate(PARTS):
        looks: dict[str, Any] = {
            "color": PALETTE[number],
            "s": 16,
            "marker": _MARKERS[number],
            "clip_on": False,
            "alpha": 0.85,
        }
        some = counts[part].to_numpy() > 0  # 0 has no place on a logarithmic axis
        left.scatter(counts[part][some], places[some], label=f"{part} ({counts[part].sum():,})", **looks)
        right.scatter(shares[part], places, **looks)
