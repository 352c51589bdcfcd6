"""The choices of a sweep side by side: the value of each run, the mean and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lesion_exp.evaluation.figures.style import GREY, PALETTE, labels, style

MOST_ROWS: Final = 20
_LABEL_WIDTH: Final = 28
_LABEL_LINES: Final = 3
"""The largest numbers of characters in a line, and of lines, of the name of a choice."""


class ChoiceRow(NamedTuple):
    """A choice and the results of its runs."""

    name: str
    values: Sequence[float]
    """The metric of each run."""
    mean: float
    low: float | None
    """Lower end of the 95% interval of the mean; None if no choice has several runs."""
    high: float | None
    is_worse: bool
    """Whether the choice is significantly worse than the first one."""


def choices_figure(rows: Sequence[ChoiceRow], metric: str) -> Figure:
    """Draws the first `MOST_ROWS` choices from top to bottom: grey points are runs, the large point is their mean.

    The figure is 735 pixels wide, so that it fits into the description of a run on MLflow's page.
    """
    shown = rows[:MOST_ROWS]
    with style():
        figure = Figure(figsize=(4.9, 0.46 * len(shown) + 1.4), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(shown):
            colour = GREY if row.is_worse else PALETTE[0]
            axes.axhspan(place - 0.5, place + 0.5, color="#F4F6F8" if place % 2 == 0 else "white", zorder=0)
            axes.plot(row.values, [place] * len(row.values), "o", color=GREY, markersize=4, alpha=0.7, zorder=2)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.2, zorder=3)
            face = "white" if row.is_worse else colour
            axes.plot(row.mean, place, "o", color=colour, markerfacecolor=face, markersize=8, zorder=4)
        names = labels([row.name for row in shown], _LABEL_WIDTH, _LABEL_LINES)
        axes.set_yticks(range(len(shown)), names, fontsize=7.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        more = f", the best {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.7)
        axes.set_axisbelow(True)
        legend = figure.legend(
            handles=_handles(shown), loc="outside upper left", ncols=2, fontsize=7.5, title=f"{metric}{more}"
        )
        legend.set_alignment("left")
        legend.get_title().set(fontsize=10, fontweight="bold")
    return figure


def _handles(rows: Sequence[ChoiceRow]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=GREY, marker="o", linestyle="", markersize=4, label="a run"),
        Line2D([], [], color=PALETTE[0], marker="o", linestyle="", markersize=8, label="mean"),
    ]
    if any(row.low is not None for row in rows):
        handles.append(Line2D([], [], color=PALETTE[0], linewidth=2.2, label="95% interval of the mean"))
    if any(row.is_worse for row in rows):
        hollow = {"markerfacecolor": "white", "markersize": 8}
        worse = "worse than the first (p < 0.05)"
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", label=worse, **hollow))  # type: ignore[arg-type]
    return handles
