"""Inflation by leakage: the scores of networks on a clean part and on their own test part, by way of splitting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lesion_exp.evaluation.figures.style import GREY, PALETTE, style
from lesion_exp.evaluation.inflation import Inflation
from lesion_exp.evaluation.intervals import Estimate

_CLEAN, _OWN = PALETTE[0], PALETTE[1]
_APART: Final = 0.13
"""The distance of the two points of a row from its middle, in rows."""


def inflation_figure(
    panels: Mapping[str, Mapping[str, Inflation]], title: str = "", references: Mapping[str, float] | None = None
) -> Figure:
    """Draws a panel for each metric, with a row for each way of splitting: both scores with 95% intervals, and their
    difference as text.

    Args:
        panels: the inflation by metric and by the name of the way of splitting, which may have several lines.
        title: above all panels.
        references: published values, by metric, drawn as dotted lines.
    """
    lines = dict(references or {})
    rows = max(len(ways) for ways in panels.values())
    with style():
        figure = Figure(figsize=(3.9 * len(panels) + 2.2, 0.95 * rows + 1.5), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr, call-arg]
        if title:
            figure.suptitle(f"Scores inflated by leaks: {title}", fontsize=11, fontweight="bold", x=0.01, ha="left")
        for axes, (name, ways) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
        ):
            _draw(axes, name, ways, lines.get(name))
        figure.legend(handles=_handles(bool(lines)), loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, name: str, ways: Mapping[str, Inflation], reference: float | None) -> None:
    for place, found in enumerate(ways.values()):
        face = "#F4F6F8" if place % 2 == 0 else "white"
        axes.axhspan(place - 0.5, place + 0.5, color=face, zorder=0)
        _point(axes, found.clean, place + _APART, _CLEAN)
        _point(axes, found.own, place - _APART, _OWN)
        text = f"inflation {found.inflation.value:+.3f}  ({found.inflation.low:+.3f} to {found.inflation.high:+.3f})"
        axes.text(
            0.99, place - 0.33, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8,
            bbox={"facecolor": face, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=1.0, linestyle=":", zorder=1)
        axes.text(
            reference, 1.0, f" reported {reference:.0%}", transform=axes.get_xaxis_transform(), fontsize=7.5,
            color=GREY, ha="right", va="bottom",
        )  # fmt: skip
    axes.set(title=name.replace("_", " "), xlim=(0, 1), ylim=(len(ways) - 0.5, -0.5))
    axes.set_yticks(range(len(ways)), list(ways))
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _point(axes: Axes, found: Estimate, place: float, colour: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
    axes.plot([found.value], [place], "o", color=colour, markersize=5.5, zorder=3)


def _handles(with_reference: bool) -> list[Line2D]:
    named = {"own test part": _OWN, "clean part": _CLEAN}
    handles = [Line2D([], [], color=colour, marker="o", label=label) for label, colour in named.items()]
    return [*handles, *([Line2D([], [], color=GREY, linestyle=":", label="published value")] if with_reference else [])]
