"""The common style of all figures: colours, fonts, sizes, and labels of limited length."""

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
"""Colours that are distinct for any colour vision (Okabe and Ito 2008), followed by further ones for more classes."""
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
    "text.parse_math": False,  # a class may be called "$5 to $10", which is no formula
}


def style() -> Any:
    """Returns a context in which figures are created in the common style."""
    return rc_context(_SETTINGS)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Returns the colour of each class, which is the same in every figure of a run."""
    return {name: PALETTE[position % len(PALETTE)] for position, name in enumerate(classes)}


def class_dashes(classes: Sequence[str]) -> dict[str, str]:
    """Returns the line style of each class: solid for the first seven, whose colours are distinct, then dashed."""
    return {name: "-" if position < 7 else "--" for position, name in enumerate(classes)}


def readable_on(background: tuple[float, ...]) -> str:
    """Returns black or white, whichever has the larger contrast to `background` (red, green, blue, 0 to 1).

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
    """Returns a figure, its square axes from 0 to 1, and empty axes on the right for a legend.

    The legend has its own axes, `legend_width` inches wide, so that long names do not make the plot smaller.
    """
    height = 5.2 + 0.2 * xlabel.count("\n")
    figure = Figure(figsize=(4.9 + legend_width, height), layout="constrained")
    axes, right = figure.subplots(1, 2, width_ratios=(4.9, legend_width))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    to_unit_square(axes, [0, 0.2, 0.4, 0.6, 0.8, 1])
    right.axis("off")
    return figure, axes, right


NUMBERED_FROM: Final = 13
"""Figures of this many classes or more number the classes or have a panel for each: 13 colours are not distinct."""
_HEADS: Final = (0.6, 0.45, 0.3, 0.15)
"""Shares of a shortened name that come from its beginning; the first that keeps all names distinct is used."""
_DOTS: Final = "…"
_MARKS: Final = " _-/"
"""The characters that separate words."""
_LEAST_LETTERS: Final = 3
"""The smallest number of letters that remain of a word without its end."""
_PIECE: Final = re.compile(r" *[^ _/…-]*[_/…-]*")
"""A word with its separators, after which a line may end."""


def labels(names: Sequence[str], width: int, lines: int = 1) -> list[str]:
    """Returns each name in up to `lines` lines of up to `width` characters; different names have different labels.

    Lines break between words. A name that is too long loses its middle. If names would become equal, they lose another
    part; if they only differ in the lost part, they end with a number.
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
    """Returns `name` in at most `length` characters, with an ellipsis in place of its middle.

    The text after the ellipsis begins with a whole word, if a word begins there at all.

    Args:
        name: any text.
        length: at least 3.
        head: the share of the remaining text that comes from the beginning of `name`.
    """
    if len(name) <= length:
        return name
    end = length - 1 - max(1, round(head * (length - 1)))
    return _joined(name, _whole_words(name, len(name) - end), length)


def _whole_words(name: str, start: int) -> str:
    """Returns the rest of `name` from the first word that begins at `start` or later, or from `start` if none does."""
    begins = (place for place in range(start, len(name)) if name[place - 1] in _MARKS and name[place] not in _MARKS)
    return name[next(begins, start) :]


def _joined(name: str, end: str, length: int) -> str:
    """Returns the longest beginning of `name` that fits before an ellipsis and `end`, without a rest of one or two
    letters.
    """
    begin = name[: length - 1 - len(end)]
    last = max(begin.rfind(mark) for mark in _MARKS) + 1
    is_cut = name[len(begin)] not in _MARKS
    if is_cut and last > 0 and len(begin) - last < _LEAST_LETTERS:
        begin = begin[:last]
    return begin.rstrip() + _DOTS + end


def _distinct(names: Sequence[str], length: int) -> list[str]:
    """Returns labels of one line, which are different for different names."""
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
    """Returns the names, grouped by equal texts."""
    groups: dict[str, list[str]] = {}
    for name, text in found.items():
        groups.setdefault(text, []).append(name)
    return list(groups.values())


def _begin(length: int) -> int:
    """Returns the number of letters that remain of the beginning if names with the same beginning differ in a later
    part.
    """
    return max(2, round(0.35 * length))


def _told_apart(group: Sequence[str], length: int, taken: set[str]) -> dict[str, str]:
    """Returns labels for names that would have equal ones, none of which is among `taken`."""
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
    """Returns the position of the first letter of the word in which the names of `group` begin to differ."""
    start = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*group, strict=False)))
    return max(group[0].rfind(mark, 0, start) for mark in _MARKS) + 1


def _from(name: str, start: int, length: int) -> str:
    """Returns the beginning of `name` and its rest from `start` on, which is shortened in turn if it is too long."""
    begin = _begin(length)
    if start <= begin or len(name) <= length:
        return shortened(name, length)
    return _joined(name, shortened(name[start:], length - begin - 1), length)


def _wrapped(text: str, width: int) -> list[str]:
    """Returns `text` in lines of up to `width` characters, which break after words, separators and ellipses."""
    rows = [""]
    for piece in _PIECE.findall(re.sub(r"\s", " ", text)):
        if len((rows[-1] + piece).strip()) <= width:
            rows[-1] += piece
        else:
            rows.append(piece)
    return [row.strip() for row in rows if row.strip()] or [text]
