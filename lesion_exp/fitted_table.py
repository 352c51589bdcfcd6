"""The table that every verb prints: it fits the width of the terminal and does not cut words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP: Final = 2
"""Characters between two columns of the table."""


@dataclass(frozen=True)
class _Row:
    cells: tuple[Text, ...]
    style: str
    ends_section: bool


class FittedTable:
    """A table that fits the width of its console.

    If the table is too wide, cells are broken between words. If it is still too wide, the remaining columns follow in
    further parts below, each of which repeats the first columns. Only a word that does not fit next to the first column
    (such as a long path) is broken.

    Args:
        heads: the heads of the columns. `>head` is a column of numbers: it is right-aligned, and its cells are not
            broken. The cells of `|head` are not broken either, and are left-aligned.
        title: the title above the table.
        keys: number of columns that every part repeats, as far as there is room for them.
    """

    def __init__(self, *heads: str, title: str = "", keys: int = 1) -> None:
        self.title, self.keys = title, max(keys, 1)
        self.heads = [Text(head.lstrip(">|"), "bold") for head in heads]
        self._right = [head.startswith(">") for head in heads]
        self._whole = [head.startswith((">", "|")) for head in heads]
        self._rows: list[_Row] = []

    def add_row(self, *cells: str | Text, style: str = "", ends_section: bool = False) -> None:
        """Adds a row with one cell for each column; `ends_section` draws a line below it."""
        assert len(cells) == len(self.heads), "one cell for each column"
        texts = tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells)
        self._rows.append(_Row(texts, style, ends_section))

    def width(self) -> int:
        """Returns the width in characters that the table takes if there is enough room."""
        return _width([max(text.cell_len for text in self._lines(place)) for place in range(len(self.heads))])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the table in one part, or in several."""
        for number, (columns, widths) in enumerate(self._parts(options.max_width)):
            if number:
                yield Text()
            yield self._part(columns, widths, self.title if number == 0 else "")

    def _parts(self, width: int) -> list[tuple[list[int], list[int]]]:
        first = self._least(0, (width - 2 * _GAP) // 2)
        rest = range(1, len(self.heads))
        least = [first, *(self._least(place, max(width - first - 2 * _GAP + 1, 1)) for place in rest)]
        keys = list(range(min(self.keys, len(self.heads))))
        while len(keys) > 1 and _width([*(least[place] for place in keys), max(least)]) > width:
            keys.pop()
        parts: list[list[int]] = [list(keys)]
        for place in range(len(keys), len(self.heads)):
            if len(parts[-1]) > len(keys) and _width([least[known] for known in (*parts[-1], place)]) > width:
                parts.append(list(keys))
            parts[-1].append(place)
        return [(columns, self._widths(columns, least, width)) for columns in parts]

    def _widths(self, columns: Sequence[int], least: Sequence[int], width: int) -> list[int]:
        """Returns the width of each column: that of its widest cell if there is room, else the widest are reduced."""
        found = {place: max(text.cell_len for text in self._lines(place)) for place in columns}
        while _width(list(found.values())) > width:
            loose = [place for place in columns if found[place] > least[place]]
            if not loose:
                break
            found[max(loose, key=lambda place: found[place])] -= 1
        return list(found.values())

    def _least(self, place: int, most: int) -> int:
        """Returns the smallest width that cuts no word of the column, at most `most`."""
        cells = [row.cells[place] for row in self._rows]
        words = [len(word) for text in (self.heads[place], *cells) for word in text.plain.split()]
        whole = [text.cell_len for text in cells] if self._whole[place] else []
        return max(1, min(max([*words, *whole], default=1), most))

    def _lines(self, place: int) -> list[Text]:
        texts = [self.heads[place], *(row.cells[place] for row in self._rows)]
        return [line for text in texts for line in text.split(allow_blank=True)] or [Text()]

    def _part(self, columns: Sequence[int], widths: Sequence[int], title: str) -> Table:
        table = Table(title=Text(title, "bold") if title else None, title_justify="left", header_style="bold")
        table.box, table.padding, table.show_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False
        for place, width in zip(columns, widths, strict=True):
            justify = "right" if self._right[place] else "left"
            table.add_column(self.heads[place], justify=justify, width=width, overflow="fold")  # type: ignore[arg-type]
        for row in self._rows:
            table.add_row(*(row.cells[place] for place in columns), style=row.style, end_section=row.ends_section)
        return table


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * len(widths) - 1
