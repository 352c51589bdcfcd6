"""What all figures share: colours, fonts, sizes, and labels that fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count, takewhile
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


NUMBERED_FROM: Final = 13
"""Pictures of so many classes number them, or give each its own panel: no reader keeps 13 colours apart."""
_HEADS: Final = (0.6, 0.45, 0.3, 0.15)
"""Share of a shortened name that is its beginning; the first that tells all names apart is taken."""
_DOTS: Final = "…"
_MARKS: Final = " _-/"
"""Where one word ends and another begins."""
_LEAST_LETTERS: Final = 3
"""Of a word whose end is lost; fewer say nothing."""
_PIECE: Final = re.compile(r" *[^ _/…-]*[_/…-]*")
"""A word with what stands before and after it: a line may end after each."""


def labels(names: Sequence[str], width: int, lines: int = 1) -> list[str]:
    """Each name in up to `lines` lines of up to `width` characters; different names have different labels.

    Lines break between words. A name that is too long loses its middle; names that would look the same then lose
    another part, and names that differ in nothing but what is lost end with a number. Capitals stay as they are.
    """
    found: dict[str, str] = {}
    for length in range(width * lines, width - 1, -1):
        for name, text in zip(names, _distinct(names, length), strict=True):
            rows = _wrapped(text, width)
            if name not in found and len(rows) <= lines and max(map(len, rows)) <= width:
                found[name] = "\n".join(rows)
    if len(set(found.values())) == len(set(names)):
        return [found[name] for name in names]
    return _distinct(names, width)


def shortened(name: str, length: int, head: float = _HEADS[0]) -> str:
    """`name` in at most `length` characters, with an ellipsis where its middle is missing.

    What follows the ellipsis begins with a whole word, if a word begins there at all.

    Args:
        name: any text.
        length: at least 3.
        head: the share of what is kept that comes from the beginning.
    """
    if len(name) <= length:
        return name
    end = length - 1 - max(1, round(head * (length - 1)))
    return _joined(name, _whole_words(name, len(name) - end), length)


def _whole_words(name: str, start: int) -> str:
    """`name` from the first word on that begins at `start` or later; from `start` on where none does."""
    begins = (place for place in range(start, len(name)) if name[place - 1] in _MARKS and name[place] not in _MARKS)
    return name[next(begins, start) :]


def _joined(name: str, end: str, length: int) -> str:
    """As much of the beginning of `name` as fits before an ellipsis and `end`, without a letter or two of a word."""
    begin = name[: length - 1 - len(end)]
    last = max(begin.rfind(mark) for mark in _MARKS) + 1
    is_cut = name[len(begin)] not in _MARKS
    if is_cut and last > 0 and len(begin) - last < _LEAST_LETTERS:
        begin = begin[:last]
    return begin.rstrip() + _DOTS + end


def _distinct(names: Sequence[str], length: int) -> list[str]:
    """Labels of one line; different names get different ones."""
    found: dict[str, str] = {}
    for group in _groups({name: name[: _begin(length)] for name in names}):
        start = _start_of_difference(group) if len(group) > 1 else 0
        found |= {name: _from(name, start, length) for name in group}
    for group in _groups(found):
        if len(group) == 1:
            continue
        others = {label for name, label in found.items() if name not in group}
        found |= _told_apart(group, length, others)
    return [found[name] for name in names]


def _groups(found: dict[str, str]) -> list[list[str]]:
    """The names that have the same text."""
    groups: dict[str, list[str]] = {}
    for name, text in found.items():
        groups.setdefault(text, []).append(name)
    return list(groups.values())


def _begin(length: int) -> int:
    """How much of its beginning a name keeps where the names that begin alike are told apart by a later part."""
    return max(2, round(0.35 * length))


def _told_apart(group: Sequence[str], length: int, taken: set[str]) -> dict[str, str]:
    start = _start_of_difference(group)
    ways = [{name: _from(name, start, length) for name in group}]
    ways += [{name: shortened(name, length, head) for name in group} for head in _HEADS[1:]]
    for way in ways:
        if len(set(way.values())) == len(group) and not taken & set(way.values()):
            return way
    endings = (f"{_DOTS}{number}" for number in count(1))
    free = (label for ending in endings if (label := group[0][: length - len(ending)].rstrip() + ending) not in taken)
    return dict(zip(group, free, strict=False))


def _start_of_difference(group: Sequence[str]) -> int:
    """The first letter of the word in which the names of `group` begin to differ."""
    start = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*group, strict=False)))
    return max(group[0].rfind(mark, 0, start) for mark in _MARKS) + 1


def _from(name: str, start: int, length: int) -> str:
    """The beginning of `name`, and what stands from `start` on, which is shortened in turn where it is too long."""
    begin = _begin(length)
    if start <= begin or len(name) <= length:
        return shortened(name, length)
    return _joined(name, shortened(name[start:], length - begin - 1), length)


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of up to `width` characters, which break after words, marks and ellipses, never in a word."""
    rows = [""]
    for piece in _PIECE.findall(re.sub(r"\s", " ", text)):
        if len((rows[-1] + piece).strip()) <= width:
            rows[-1] += piece
        else:
            rows.append(piece)
    return [row.strip() for row in rows if row.strip()] or [text]
