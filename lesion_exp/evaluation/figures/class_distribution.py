"""How many images of each class each part of a split holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.style import PALETTE, style

PARTS = ("train", "val", "test")


def class_distribution(table: pd.DataFrame) -> Figure:
    """Bars of images a class in each part, on a logarithmic axis, and the share of each class in its part.

    Args:
        table: with `label` and `split`.
    """
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=list(PARTS), fill_value=0).sort_index()
    shares = counts / counts.sum(axis=0).clip(lower=1)
    height = 0.26
    with style():
        figure = Figure(figsize=(9.0, 0.62 * len(counts) + 1.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(counts))
        for number, part in enumerate(PARTS):
            shift = (number - 1) * height
            bars = left.barh(places + shift, counts[part], height=0.92 * height, color=PALETTE[number], label=part)
            left.bar_label(bars, [f"{value:,}" for value in counts[part]], padding=3, fontsize=7.5)
            bars = right.barh(places + shift, shares[part], height=0.92 * height, color=PALETTE[number])
            right.bar_label(bars, [f"{value:.1%}" for value in shares[part]], padding=3, fontsize=7.5)
        left.set_yticks(places, counts.index)
        left.invert_yaxis()
        left.set_xscale("log")
        left.set_xlim(0.8, counts.to_numpy().max() * 4)
        left.set(title="images a class", xlabel="images (logarithmic)")
        right.set_xlim(0, min(1.0, shares.to_numpy().max() * 1.2))
        right.set(title="share of the part", xlabel="share")
        figure.legend(loc="outside upper right", ncols=len(PARTS))
    return figure
