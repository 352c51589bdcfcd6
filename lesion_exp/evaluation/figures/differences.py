"""The differences between jobs as a forest plot: each with its interval, and a line at 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lesion_exp.evaluation.comparison import OVERALL, Comparison, Difference, Pair
from lesion_exp.evaluation.figures.style import GREY, PALETTE, labels, shortened, style
from lesion_exp.evaluation.lesion_counts import TOO_FEW, too_few
from lesion_exp.evaluation.registry import HIGHER, LOWER, METRICS, is_lower_better, shown_in

_MOST_COLOURS: Final = 4
"""If there are more pairs, each has its own row instead of its own colour."""
_WORDS: Final = "#57606A"
"""The colour of text in a row; its contrast is 5.9 to 1 on the background."""


def differences_figure(comparison: Comparison, names: Mapping[str, str], title: str = "") -> Figure:
    """Draws the differences with their 95% intervals; significant ones (by the corrected p-value) are filled.

    Up to four pairs have a colour each, in panels of the overall metrics for which higher or lower is better, and of
    the recall and the AUROC of each class. More pairs have a row each, in a panel for each headline metric.
    """
    with style():
        pairs = comparison.pairs if len(comparison.pairs) <= _MOST_COLOURS else ()
        figure = _by_metric(comparison) if pairs else _by_pair(comparison)
        figure.suptitle(_heading(comparison, title), fontsize=11, fontweight="bold", x=0.01, ha="left")
        figure.legend(
            handles=_handles(pairs),
            loc="outside lower center",
            ncols=len(pairs) + 2,
            title="\n".join(f"{letter}:  {shortened(name, 100)}" for letter, name in names.items()),
            alignment="left",
        )
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.17 * len(names))
    return figure


def _by_metric(comparison: Comparison) -> Figure:
    pairs, classes = comparison.pairs, comparison.class_images
    short = labels(list(classes), 24)
    named = {name: f"{text} ({n:,})" for (name, n), text in zip(classes.items(), short, strict=True)}
    panels: dict[str, list[tuple[str, str]]] = {
        HIGHER: [(name, METRICS[name].in_a_sentence) for name in OVERALL if not is_lower_better(name)],
        LOWER: [(name, METRICS[name].in_a_sentence) for name in OVERALL if is_lower_better(name)],
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
        _forest(axes, metrics, pairs)
        axes.set(title=heading, xlabel="difference")
    return figure


def _forest(axes: Axes, names: Sequence[tuple[str, str]], pairs: Sequence[Pair]) -> None:
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
                face = {"facecolor": _face(place), "edgecolor": "none", "pad": 1.5}
                looks: Any = {"color": _WORDS, "fontsize": 7, "ha": "center", "va": "center", "zorder": 3, "bbox": face}
                axes.text(0, place, too_few(found.lesions), **looks)
    axes.set_yticks(range(len(names)), [label for _, label in names])
    _finish(axes, len(names))


def _by_pair(comparison: Comparison) -> Figure:
    pairs = comparison.pairs
    names = [name for name in shown_in("headline") if name in pairs[0].differences]
    figure = Figure(figsize=(2.6 * len(names) + 1.2, 0.26 * len(pairs) + 1.9), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for place, pair in enumerate(pairs):
            axes.axhspan(place - 0.5, place + 0.5, color=_face(place), zorder=0)
            _point(axes, pair.differences[name], place, PALETTE[0])
        axes.set(title=METRICS[name].in_a_sentence, xlabel="difference")
        _finish(axes, len(pairs))
    panels[0].set_yticks(range(len(pairs)), [f"{pair.first} - {pair.second}" for pair in pairs])
    return figure


def _face(place: int) -> str:
    """The background colour of a row."""
    return "#F4F6F8" if place % 2 == 0 else "white"


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
    """The handles of the legend: the colours of the pairs, and filled and open points."""
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
    ]


def _heading(comparison: Comparison, title: str) -> str:
    pair = comparison.pairs[0]
    names = f"{pair.first} - {pair.second}: " if len(comparison.pairs) == 1 else ""
    size = f"{comparison.num_images:,} images of {comparison.num_lesions:,} lesions"
    return f"{names}{title + ', ' if title else ''}{size}"
