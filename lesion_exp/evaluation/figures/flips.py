"""The effect of each change of the images: the share of predictions that change, and the scores."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.style import GREY, PALETTE, style
from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.intervals import Estimate


def flips_figure(changes: Mapping[str, Flips], title: str = "") -> Figure:
    """Draws a row for each change, the control first: flip rate, accuracy and balanced accuracy with 95% intervals.

    The dotted line is the flip rate of the control in the first panel, and the score without a change in the others.
    """
    with style():
        figure = Figure(figsize=(9.2, 0.42 * len(changes) + 1.5), layout="constrained")
        if title:
            figure.suptitle(f"Changes beside the lesion: {title}", fontsize=11, fontweight="bold", x=0.01, ha="left")
        left, middle, right = figure.subplots(1, 3, sharey=True)
        control = next(iter(changes.values()))
        _forest(left, {name: found.flip_rate for name, found in changes.items()}, control.flip_rate.value)
        left.set_title("predictions that change")
        for axes, score in ((middle, "accuracy"), (right, "balanced_accuracy")):
            before = control.scores[score].value + control.drops[score].value
            _forest(axes, {name: found.scores[score] for name, found in changes.items()}, before)
            axes.set_title(score.replace("_", " "))
        left.set_yticks(range(len(changes)), [name.replace("_", " ") for name in changes])
    return figure


def _forest(axes: Axes, rows: Mapping[str, Estimate], line: float) -> None:
    for place, found in enumerate(rows.values()):
        colour = GREY if place == 0 else PALETTE[0]
        axes.axhspan(place - 0.5, place + 0.5, color="#F4F6F8" if place % 2 == 0 else "white", zorder=0)
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
        axes.plot([found.value], [place], "o", color=colour, markersize=5.5, zorder=3, clip_on=False)
    axes.axvline(line, color=GREY, linewidth=1.0, linestyle=":", zorder=1)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
