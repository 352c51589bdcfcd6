"""Forest plots: a row with a value and its 95% interval for each difference, change, split method or choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lesion_exp.evaluation.comparison import OVERALL, Comparison, Difference, Pair
from lesion_exp.evaluation.figures.style import GREY, PALETTE, labels, shortened, style
from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.inflation import Inflation
from lesion_exp.evaluation.intervals import Estimate, Unit
from lesion_exp.evaluation.lesion_counts import TOO_FEW, too_few
from lesion_exp.evaluation.registry import HIGHER, LOWER, short_of, shown_in

_MOST_COLOURS: Final = 4
"""If there are more pairs, each has its own row instead of its own colour."""
_WORDS: Final = "#57606A"
"""The colour of text in a row; its contrast is 5.9 to 1 on the background."""
_CLEAN, _OWN = PALETTE[0], PALETTE[1]
_APART: Final = 0.13
"""The distance of the two points of a row from its middle, in rows."""
MOST_ROWS: Final = 20
_LABEL_WIDTH: Final = 28
_LABEL_LINES: Final = 3
"""The largest numbers of characters in a line, and of lines, of the name of a choice."""


def differences_figure(comparison: Comparison, names: Mapping[str, str], title: str = "") -> Figure:
    """Draws the differences with their 95% intervals; significant ones (by the corrected p-value) are filled.

    Up to four pairs have a colour each, in panels of the overall metrics for which higher or lower is better, and of
    the recall and the AUROC of each class. More pairs have a row each, in a panel for each headline metric. Metrics
    that configs add are among the overall ones and the headline, if it is known which direction is better.
    """
    with style():
        pairs = comparison.pairs if len(comparison.pairs) <= _MOST_COLOURS else ()
        figure = _by_metric(comparison) if pairs else _by_pair(comparison)
        figure.suptitle(_heading(comparison, title), fontsize=11, fontweight="bold", x=0.01, ha="left")
        figure.legend(
            handles=_handles(pairs),
            loc="outside lower center",
            ncols=len(pairs) + 3,
            title="\n".join(f"{letter}:  {shortened(name, 100)}" for letter, name in names.items()),
            alignment="left",
        )
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.17 * len(names))
    return figure


def _by_metric(comparison: Comparison) -> Figure:
    pairs, classes = comparison.pairs, comparison.class_images
    directed = [name for name in (*OVERALL, *comparison.added) if comparison.added.get(name, True) is not None]
    short = labels(list(classes), 24)
    named = {name: f"{text} ({n:,})" for (name, n), text in zip(classes.items(), short, strict=True)}
    panels: dict[str, list[tuple[str, str]]] = {
        HIGHER: [(name, short_of(name)) for name in directed if not comparison.is_lower_better(name)],
        LOWER: [(name, short_of(name)) for name in directed if comparison.is_lower_better(name)],
        "recall of a class": [(f"recall/{name}", text) for name, text in named.items()],
        "AUROC of a class": [(f"auroc/{name}", text) for name, text in named.items()],
    }
    overall = max(len(panels[HIGHER]), len(panels[LOWER]))
    rows = max(overall, len(classes))
    pitch = 0.24 + 0.11 * len(pairs)
    figure = Figure(figsize=(9.6, pitch * (overall + rows) + 2.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(2, 2, height_ratios=[overall, rows])
    for axes, (heading, metrics) in zip(grid.ravel(), panels.items(), strict=True):
        _forest(axes, metrics, pairs, comparison.unit)
        axes.set(title=heading, xlabel="difference")
    return figure


def _forest(axes: Axes, names: Sequence[tuple[str, str]], pairs: Sequence[Pair], unit: Unit) -> None:
    """Draws a row for each metric, with a point for each pair."""
    step = 0.7 / len(pairs)
    for place in range(len(names)):
        axes.axhspan(place - 0.5, place + 0.5, color=_face(place), zorder=0)
    for number, pair in enumerate(pairs):
        shift = (number - (len(pairs) - 1) / 2) * step
        for place, (name, _) in enumerate(names):
            found = pair.differences.get(name)
            if found is None:
                continue
            if found.test != TOO_FEW:
                _point(axes, found, place + shift, PALETTE[number])
            elif number == 0:  # all pairs have the same lesions
                _untested(axes, found, place, unit)
    axes.set_yticks(range(len(names)), [label for _, label in names])
    _finish(axes, len(names))


def _by_pair(comparison: Comparison) -> Figure:
    pairs = comparison.pairs
    names = [name for name in (*shown_in("headline"), *comparison.added) if name in pairs[0].differences]
    figure = Figure(figsize=(2.6 * len(names) + 1.2, 0.26 * len(pairs) + 1.9), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for place, pair in enumerate(pairs):
            axes.axhspan(place - 0.5, place + 0.5, color=_face(place), zorder=0)
            found = pair.differences[name]
            if found.test != TOO_FEW:
                _point(axes, found, place, PALETTE[0])
            else:
                _untested(axes, found, place, comparison.unit)
        axes.set(title=short_of(name), xlabel="difference")
        _finish(axes, len(pairs))
    panels[0].set_yticks(range(len(pairs)), [f"{pair.first} - {pair.second}" for pair in pairs])
    return figure


def _face(place: int) -> str:
    """Returns the background colour of a row."""
    return "#F4F6F8" if place % 2 == 0 else "white"


def _untested(axes: Axes, found: Difference, place: int, unit: Unit) -> None:
    """Writes into a row that too few lesions were compared."""
    face = {"facecolor": _face(place), "edgecolor": "none", "pad": 1.5}
    looks: Any = {"color": _WORDS, "fontsize": 7, "ha": "center", "va": "center", "zorder": 3, "bbox": face}
    axes.text(0, place, too_few(found.lesions, unit), **looks)


def _point(axes: Axes, found: Difference, place: float, colour: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    axes.plot(
        found.difference,
        place,
        marker="o",
        markersize=5.5,
        markeredgecolor=colour,
        markeredgewidth=1.4,
        markerfacecolor=colour if found.significant else "white",
        zorder=3,
    )


def _finish(axes: Axes, num_rows: int) -> None:
    axes.axvline(0, color=GREY, linewidth=1.0, zorder=1)
    axes.set_ylim(num_rows - 0.5, -0.5)
    farthest = max(float(np.abs(axes.get_xlim()).max()), 0.01)
    axes.set_xlim(-farthest, farthest)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, symmetric=True))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _handles(pairs: Sequence[Pair]) -> list[Line2D]:
    """Returns the handles of the legend: the colours of the pairs, and filled and open points."""
    named = [
        Line2D([], [], color=PALETTE[number], marker="o", label=f"{pair.first} - {pair.second}")
        for number, pair in enumerate(pairs)
    ]
    colour = GREY if len(pairs) != 1 else PALETTE[0]
    ways = {"p < 0.05, corrected": colour, "not distinguishable": "white"}
    return [
        *(named if len(pairs) > 1 else []),
        *(
            Line2D([], [], color=colour, marker="o", markerfacecolor=face, markeredgewidth=1.4, label=label)
            for label, face in ways.items()
        ),
        Line2D([], [], color=colour, linewidth=1.4, label="95% interval"),
    ]


def _heading(comparison: Comparison, title: str) -> str:
    pair = comparison.pairs[0]
    names = f"{pair.first} - {pair.second}: " if len(comparison.pairs) == 1 else ""
    size = f"{comparison.num_images:,} images of {comparison.counted(comparison.num_lesions)}"
    return f"{names}{title + ', ' if title else ''}{size}"


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
        _draw_changes(left, {name: found.flip_rate for name, found in changes.items()}, control.flip_rate.value)
        left.set_title("predictions that change")
        for axes, score in ((middle, "accuracy"), (right, "balanced_accuracy")):
            before = control.scores[score].value + control.drops[score].value
            _draw_changes(axes, {name: found.scores[score] for name, found in changes.items()}, before)
            axes.set_title(score.replace("_", " "))
        left.set_yticks(range(len(changes)), [name.replace("_", " ") for name in changes])
    return figure


def _draw_changes(axes: Axes, rows: Mapping[str, Estimate], line: float) -> None:
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


def inflation_figure(
    panels: Mapping[str, Mapping[str, Inflation]], title: str = "", references: Mapping[str, float] | None = None
) -> Figure:
    """Draws a panel for each metric, with a row for each split method: both scores with 95% intervals, and their
    difference as text.

    Args:
        panels: the inflation by metric and by the name of the split method, which may have several lines.
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
            _draw_ways(axes, name, ways, lines.get(name))
        figure.legend(handles=_handles_of_ways(bool(lines)), loc="outside lower center", ncols=3)
    return figure


def _draw_ways(axes: Axes, name: str, ways: Mapping[str, Inflation], reference: float | None) -> None:
    for place, found in enumerate(ways.values()):
        face = "#F4F6F8" if place % 2 == 0 else "white"
        axes.axhspan(place - 0.5, place + 0.5, color=face, zorder=0)
        _score_point(axes, found.clean, place + _APART, _CLEAN)
        _score_point(axes, found.own, place - _APART, _OWN)
        text = f"inflation {found.inflation.value:+z.3f}  ({found.inflation.low:+z.3f} to {found.inflation.high:+z.3f})"
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


def _score_point(axes: Axes, found: Estimate, place: float, colour: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
    axes.plot([found.value], [place], "o", color=colour, markersize=5.5, zorder=3)


def _handles_of_ways(with_reference: bool) -> list[Line2D]:
    named = {"own test part": _OWN, "clean part": _CLEAN}
    handles = [Line2D([], [], color=colour, marker="o", label=label) for label, colour in named.items()]
    return [*handles, *([Line2D([], [], color=GREY, linestyle=":", label="published value")] if with_reference else [])]


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
            handles=_handles_of_choices(shown), loc="outside upper left", ncols=2, fontsize=7.5, title=f"{metric}{more}"
        )
        legend.set_alignment("left")
        legend.get_title().set(fontsize=10, fontweight="bold")
    return figure


def _handles_of_choices(rows: Sequence[ChoiceRow]) -> list[Line2D]:
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
