"""What all pictures have in common: sizes, fonts and the colour of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C564B", "#4D4D4D", "#A6761D",
    "#1B9E77", "#E7298A",
)  # fmt: skip
"""Colours that can be told apart with any colour vision (Okabe and Ito 2008), and further ones for more classes."""
GREY: Final = "#6E7781"
_SETTINGS: Final[Any] = {
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.prop_cycle": cycler(color=PALETTE),
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$5 to $10": dollar signs are text, not the start of a formula
}


def style() -> Any:
    """A context in which figures have the house's looks."""
    return rc_context(_SETTINGS)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """The colour of each class: the same in every picture of a run."""
    return {name: PALETTE[position % len(PALETTE)] for position, name in enumerate(classes)}


def class_dashes(classes: Sequence[str]) -> dict[str, str]:
    """The line style of each class: solid for the first seven, whose colours anyone can tell apart, then dashed."""
    return {name: "-" if position < 7 else "--" for position, name in enumerate(classes)}


def readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever stands out more from the colour `background` (red, green, blue, 0 to 1).

    The contrast is at least 4.58 to 1. Source: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def to_unit_square(axes: Axes, ticks: Sequence[float]) -> None:
    """Makes `axes` a square from 0 to 1 with a grid at `ticks`."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def square_axes(title: str, xlabel: str, ylabel: str, legend_width: float) -> tuple[Figure, Axes, Axes]:
    """A figure with one square plot from 0 to 1, and empty axes at its right for a legend `legend_width` inches wide.

    The legend has its own place, so that long names widen the picture and never shrink the plot.
    """
    height = 5.2 + 0.2 * xlabel.count("\n")
    figure = Figure(figsize=(4.9 + legend_width, height), layout="constrained")
    axes, right = figure.subplots(1, 2, width_ratios=(4.9, legend_width))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    to_unit_square(axes, [0, 0.2, 0.4, 0.6, 0.8, 1])
    right.axis("off")
    return figure, axes, right
