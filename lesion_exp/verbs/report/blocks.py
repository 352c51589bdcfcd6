"""The blocks of a section of a page; the template `page.html` draws each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Final, Literal

from markupsafe import Markup

from lesion_exp.evaluation.figures.style import NUMBERED_FROM, labels

_MOST_UPRIGHT: Final = 9
"""The number of columns that fit on a page in portrait format."""
_MOST_TURNED: Final = 30
"""The number of numbered columns that fit on a page in landscape format."""
_MOST_UNBROKEN: Final = 14
"""The number of rows or lines up to which a block is printed without a page break."""
_CODE_LINE: Final = 90
"""The number of letters in a printed line of code."""
_ROW_HEAD, _COLUMN_HEAD = 26, 11
"""The numbers of letters of a class name beside a row, and in each line above a column."""
Cell = str | Markup
"""Text is escaped; `Markup` is not."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` marks the main sentence of a section."""

    kind: ClassVar = "text"
    text: Cell
    lead: bool = False


@dataclass(frozen=True)
class Note:
    """A warning, a good result, or a note on something that the run did not store."""

    kind: ClassVar = "note"
    text: Cell
    level: Literal["warning", "good", "missing"] = "warning"


@dataclass(frozen=True)
class Table:
    """A table; columns with names such as `>name` have numbers, which are aligned to the right."""

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wraps: bool = False
    """Whether cells contain sentences, which may be wrapped."""

    @property
    def is_turned(self) -> bool:
        """Whether the table is printed in landscape format, because it has many columns."""
        return len(self.columns) > _MOST_UPRIGHT

    @property
    def is_short(self) -> bool:
        """Whether the table is short enough to be printed without a page break."""
        return len(self.rows) <= _MOST_UNBROKEN and not self.wraps


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: counts, coloured by the share of the true class.

    With 13 or more classes, rows and columns are numbered, and the columns are divided into parts that fit on a page in
    landscape format.
    """

    kind: ClassVar = "matrix"
    caption: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def is_numbered(self) -> bool:
        """Whether columns have numbers instead of names; such a matrix is printed in landscape format."""
        return len(self.classes) >= NUMBERED_FROM

    @property
    def rows(self) -> list[str]:
        """The labels of the rows."""
        names = labels(self.classes, _ROW_HEAD)
        return [f"{place} {name}" for place, name in enumerate(names, 1)] if self.is_numbered else names

    @property
    def columns(self) -> list[str]:
        """The labels of the columns, which may have several lines."""
        if self.is_numbered:
            return [str(place) for place in range(1, len(self.classes) + 1)]
        return labels(self.classes, _COLUMN_HEAD, 3)

    @property
    def parts(self) -> list[range]:
        """The columns of each part."""
        size = ceil(len(self.classes) / ceil(len(self.classes) / _MOST_TURNED))
        return [range(first, min(first + size, len(self.classes))) for first in range(0, len(self.classes), size)]

    def caption_of(self, part: range) -> str:
        """Returns the caption of a part."""
        if len(self.parts) == 1:
            return self.caption
        return f"{self.caption}; predicted classes {part.start + 1} to {part.stop} of {len(self.classes)}"


@dataclass(frozen=True)
class Legend:
    """An entry of the legend of a figure; `colour` is a number as in `charts`."""

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
    """Whether the figure fills a row, and scrolls on a narrow screen."""


@dataclass(frozen=True)
class Figures:
    """Figures, side by side if there is room."""

    kind: ClassVar = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Picture:
    """A picture as a `data:` address, with a text alternative."""

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
    """Whether values are sentences, which need the whole width."""


@dataclass(frozen=True)
class Code:
    """Text to copy or to look up; long text scrolls on a screen, and is complete on paper."""

    kind: ClassVar = "code"
    caption: str
    text: str
    columns: bool = False
    """Whether lines are arranged in columns."""

    @property
    def is_short(self) -> bool:
        """Whether the text is short enough to be printed without a page break."""
        return len(self.text) <= _MOST_UNBROKEN * _CODE_LINE and self.text.count("\n") < _MOST_UNBROKEN


Block = Text | Note | Table | Matrix | Figures | Picture | Pairs | Code


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `key` is its address within the page."""

    key: str
    title: str
    blocks: Sequence[Block]


def not_stored(name: str, remedy: str = "") -> Note:
    """Returns a note that the run did not store something; `name` is the artifact or its content."""
    return Note(f"Not stored by this run: {name}.{f' {remedy}' if remedy else ''}", "missing")
