"""The metrics of subgroups with their intervals: a row for each subgroup and a column for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.style import GREY, PALETTE, labels, style
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT
from lesion_exp.evaluation.registry import WATCHED, short_of
from lesion_exp.evaluation.subgroups import Cell, Subgroups, missing_classes

TITLES: Final = {
    name: short_of(name)
    for name in (WATCHED, *(f"{family}/{MALIGNANT}" for family in ("recall", "specificity", "auroc")))
}
_ROW_HEIGHT = 0.24
_LETTERS_AN_INCH = 15
"""The number of letters for each inch of a line below the panels."""
_ABOVE_ATTRIBUTE = 18
"""The distance from the panels to their titles, in points; the name of the first attribute is between them."""


def subgroup_figure(found: Subgroups, title: str = "") -> Figure | None:
    """Draws the metrics with 95% intervals, and a dotted line at the value of the whole part.

    Metrics that rest on fewer than 20 lesions are not drawn but counted below the panels. A balanced accuracy over
    fewer classes than that of the whole part cannot be compared with the dotted line: it is an open circle, and the
    missing classes are listed below the panels. The result is None if no subgroup is large enough.
    """
    shown = [cell for cell in found.cells if any(cell.estimates.values())]
    if not shown:
        return None
    columns = [name for name in TITLES if any(cell.estimates.get(name) for cell in shown)]
    attributes = list(dict.fromkeys(cell.attribute for cell in shown))
    blocks = [[cell for cell in shown if cell.attribute == attribute] for attribute in attributes]
    width = 3.1 + 2.0 * max(len(columns), 2)
    paragraphs = [*_notes(found.cells, shown, columns), *_fewer_classes(found, shown)]
    notes = [line for text in paragraphs for line in wrap(text, int(_LETTERS_AN_INCH * width))]
    height = sum(len(block) * _ROW_HEIGHT + 0.42 for block in blocks) + 0.95 + 0.16 * len(notes)
    with style():
        figure = Figure(figsize=(width, max(height, 1.6)), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7.5, linespacing=1.4)
        grid = figure.subplots(
            len(blocks), len(columns), squeeze=False, sharex="col", height_ratios=[len(block) + 0.4 for block in blocks]
        )
        for row, block in enumerate(blocks):
            for column, metric in enumerate(columns):
                axes = grid[row][column]
                _draw(axes, block, metric, PALETTE[row % len(PALETTE)], found.classes)
                axes.axvline(found.overall[metric].value, color=GREY, linewidth=0.9, linestyle=":", zorder=0)
                if row == 0:
                    axes.set_title(TITLES[metric], pad=_ABOVE_ATTRIBUTE)
                if column == 0:
                    _name_rows(axes, block)
                else:
                    axes.set_yticks([])
    return figure


def _notes(cells: Sequence[Cell], shown: Sequence[Cell], columns: Sequence[str]) -> list[str]:
    """Returns notes on the subgroups and metrics that are not drawn."""
    left_out = [
        f"{cell.attribute.replace('_', ' ')} {cell.name} ({cell.lesions:,})" for cell in cells if cell not in shown
    ]
    notes = [f"left out, with fewer than {LEAST_LESIONS} lesions: {', '.join(left_out)}"] if left_out else []
    missing = {TITLES[metric]: sum(cell.estimates.get(metric) is None for cell in shown) for metric in columns}
    words = [f"{name} in {count} of {len(shown)} subgroups" for name, count in missing.items() if count]
    if words:
        notes.append(f"not drawn, because the metric rests on too few lesions: {'; '.join(words)}")
    return notes


def _fewer_classes(found: Subgroups, shown: Sequence[Cell]) -> list[str]:
    """Returns the explanation of open circles, with the missing classes of each subgroup that has one."""
    lacking = [
        f"{cell.attribute.replace('_', ' ')} {cell.name} without {missing_classes(cell.classes, found.classes)}"
        for cell in shown
        if len(cell.classes) < len(found.classes)
    ]
    if not lacking:
        return []
    return [
        f"open circle: a balanced accuracy over fewer than the {len(found.classes)} classes of the dotted line, so the "
        f"two cannot be compared: {'; '.join(lacking)}"
    ]


def _draw(axes: Axes, block: Sequence[Cell], metric: str, colour: str, classes: Sequence[str]) -> None:
    for place, cell in enumerate(block):
        estimate = cell.estimates.get(metric)
        if estimate is None:
            continue
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        is_open = metric == "balanced_accuracy" and len(cell.classes) < len(classes)
        inside = "white" if is_open else colour
        axes.plot([estimate.value], [place], "o", color=colour, markerfacecolor=inside, markersize=4.5)
    axes.set(xlim=(0, 1.02), ylim=(len(block) - 0.4, -0.6))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.grid(axis="x", color="#ECECEC", linewidth=0.7)
    axes.set_axisbelow(True)


def _name_rows(axes: Axes, block: Sequence[Cell]) -> None:
    short = labels([cell.name for cell in block], 24)
    names = [f"{text}  ({cell.lesions:,})" for cell, text in zip(block, short, strict=True)]
    axes.set_yticks(range(len(block)), names)
    axes.tick_params(axis="y", length=0)
    axes.text(
        -0.02, -0.75, f"{block[0].attribute.replace('_', ' ')} (lesions)", transform=axes.get_yaxis_transform(),
        ha="right", va="bottom", fontweight="bold", fontsize=8.5,
    )  # fmt: skip
