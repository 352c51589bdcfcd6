"""How many images of each class each part of a split holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lesion_exp.evaluation.figures.style import PALETTE, shortened, style

PARTS = ("train", "val", "test")
_LEFT_EDGE = 0.8
"""Where the logarithmic axis begins: one image is a visible bar."""


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
            label = f"{part} ({counts[part].sum():,})"
            left.barh(places + shift, counts[part], height=0.92 * height, color=PALETTE[number], label=label)
            for place, count in zip(places + shift, counts[part], strict=True):  # 0 has no place on a logarithmic axis
                start = (max(count, _LEFT_EDGE), place)
                left.annotate(f"{count:,}", start, (3, 0), textcoords="offset points", va="center", fontsize=7.5)
            bars = right.barh(places + shift, shares[part], height=0.92 * height, color=PALETTE[number])
            right.bar_label(bars, [f"{value:.1%}" for value in shares[part]], padding=3, fontsize=7.5)
        left.set_yticks(places, [shortened(str(name), 26) for name in counts.index])
        left.invert_yaxis()
        left.set_xscale("log")
        left.set_xlim(_LEFT_EDGE, counts.to_numpy().max() * 4)
        left.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        left.set(title="images a class", xlabel="images (logarithmic)")
        right.set_xlim(0, shares.to_numpy().max() * 1.2)
        right.set_xticks([tick for tick in right.get_xticks() if tick <= 1])
        right.set(title="share of the part", xlabel="share")
        figure.legend(loc="outside upper right", ncols=len(PARTS))
    return figure
