"""What a section of the page is made of; the template `page.html` knows how each block looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Final, Literal

from markupsafe import Markup

from lesion_exp.evaluation.figures.style import NUMBERED_FROM, labels

_MOST_UPRIGHT: Final = 9
"""Columns that an upright sheet has room for."""
_MOST_TURNED: Final = 30
"""Numbered columns that a turned sheet has room for."""
_MOST_UNBROKEN: Final = 14
_CODE_LINE: Final = 90
"""Of a text to be copied on paper, letters."""
_ROW_HEAD, _COLUMN_HEAD = 26, 11
"""Letters of a class's name beside a row, and of each line above a column."""
Cell = str | Markup
"""Text is escaped; `Markup` is taken as it is."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` is the sentence to be read first."""

    kind: ClassVar = "text"
    text: Cell
    lead: bool = False


@dataclass(frozen=True)
class Note:
    """Something a reader must know before believing the rest: a warning, or what a run did not store."""

    kind: ClassVar = "note"
    text: Cell
    level: Literal["warning", "good", "missing"] = "warning"


@dataclass(frozen=True)
class Table:
    """Rows below a head; columns written `>name` are numbers and stand right."""

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wraps: bool = False
    """Whether cells hold sentences, which may be broken into lines."""

    @property
    def is_turned(self) -> bool:
        """Whether a sheet of paper must be turned for its columns."""
        return len(self.columns) > _MOST_UPRIGHT

    @property
    def is_short(self) -> bool:
        """Whether it fits on a sheet with room to spare, so that it need not be broken."""
        return len(self.rows) <= _MOST_UNBROKEN and not self.wraps


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: counts, shaded by their share of the true class.

    From 13 classes on its columns are numbered as its rows are, and stand in parts that a turned sheet has room for.
    """

    kind: ClassVar = "matrix"
    caption: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def is_numbered(self) -> bool:
        """Whether columns are numbered instead of named; such a matrix is turned on paper."""
        return len(self.classes) >= NUMBERED_FROM

    @property
    def rows(self) -> list[str]:
        """The heads of the rows."""
        names = labels(self.classes, _ROW_HEAD)
        return [f"{place} {name}" for place, name in enumerate(names, 1)] if self.is_numbered else names

    @property
    def columns(self) -> list[str]:
        """The heads of the columns, which may have several lines."""
        if self.is_numbered:
            return [str(place) for place in range(1, len(self.classes) + 1)]
        return labels(self.classes, _COLUMN_HEAD, 3)

    @property
    def parts(self) -> list[range]:
        """The columns of each part."""
        size = ceil(len(self.classes) / ceil(len(self.classes) / _MOST_TURNED))
        return [range(first, min(first + size, len(self.classes))) for first in range(0, len(self.classes), size)]

    def caption_of(self, part: range) -> str:
        """The caption of a part."""
        if len(self.parts) == 1:
            return self.caption
        return f"{self.caption}; predicted classes {part.start + 1} to {part.stop} of {len(self.classes)}"


@dataclass(frozen=True)
class Legend:
    """An entry below a figure; `colour` as in `charts`."""

    name: str
    colour: int
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption and legend."""

    drawing: Markup
    caption: str
    legend: Sequence[Legend] = ()
    wide: bool = False
    """Whether it has a row of its own, and scrolls on a narrow screen."""


@dataclass(frozen=True)
class Figures:
    """Figures side by side where there is room."""

    kind: ClassVar = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Picture:
    """A picture as a `data:` address, with what a reader who cannot see it is told."""

    kind: ClassVar = "picture"
    address: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Pairs:
    """Names and values."""

    kind: ClassVar = "pairs"
    pairs: Mapping[str, Cell]
    wide: bool = False
    """Whether values are sentences, which want the whole width."""


@dataclass(frozen=True)
class Code:
    """A text to be copied or looked up; a long one scrolls on a screen, and is whole on paper."""

    kind: ClassVar = "code"
    caption: str
    text: str
    columns: bool = False
    """Whether short lines stand in columns."""

    @property
    def is_short(self) -> bool:
        """Whether it fits on a sheet with room to spare, so that it need not be broken."""
        return len(self.text) <= _MOST_UNBROKEN * _CODE_LINE and self.text.count("\n") < _MOST_UNBROKEN


Block = Text | Note | Table | Matrix | Figures | Picture | Pairs | Code


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `key` is its address within the page."""

    key: str
    title: str
    blocks: Sequence[Block]


def not_stored(name: str, remedy: str = "") -> Note:
    """What stands where something is missing; `name` is the artifact, or what it would have said."""
    return Note(f"Not stored by this run: {name}.{f' {remedy}' if remedy else ''}", "missing")
