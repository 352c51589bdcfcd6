"""What a section of the page is made of; the template `page.html` knows how each block looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

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


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: counts, shaded by their share of the true class."""

    kind: ClassVar = "matrix"
    caption: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]


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
