"""A table for a paper, as markdown or as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_LATEX: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "−": "$-$",
}  # fmt: skip
_SPECIAL: Final = re.compile("|".join(map(re.escape, _LATEX)))


class Entry(NamedTuple):
    """A cell: its first words, which may be bold, and what follows them."""

    text: str
    rest: str = ""
    bold: bool = False


@dataclass(frozen=True)
class PrintedTable:
    """A table with a header, groups of rows, and a caption."""

    head: Sequence[str]
    groups: Sequence[Sequence[Sequence[Entry]]]
    """Groups of rows, between which LaTeX has a rule."""
    names: int
    """How many of the first columns are names; the others are numbers."""
    caption: Sequence[str]
    """Sentences without a full stop."""

    def markdown(self) -> str:
        """Returns the table as markdown, with its caption below."""
        rule = ["---"] * self.names + ["---:"] * (len(self.head) - self.names)
        rows = [[_in_markdown(entry) for entry in row] for group in self.groups for row in group]
        lines = [[_escaped(name) for name in self.head], rule, *rows]
        body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"{body}\n{''.join(f'{text}{chr(10)}' for text in self._sentences())}"

    def latex(self) -> str:
        """Returns the table as LaTeX for the package booktabs."""
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{{'l' * self.names}{'r' * (len(self.head) - self.names)}}}",
            r"\toprule",
            _row(map(in_latex, self.head)),
        ]
        for group in self.groups:
            lines += [r"\midrule", *(_row(map(_entry_in_latex, row)) for row in group)]
        caption = " ".join(map(in_latex, self._sentences()))
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def _sentences(self) -> list[str]:
        return [f"{text[:1].upper()}{text[1:]}." for text in self.caption]


def in_latex(text: str) -> str:
    """Returns `text` with the special characters of LaTeX escaped."""
    return _SPECIAL.sub(lambda found: _LATEX[found[0]], text)


def _row(cells: Iterable[str]) -> str:
    """The line of a row. A rule or the end of the row above would take a bracket or a star at its beginning as an
    argument of its own, also in the next line."""
    text = " & ".join(cells)
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def _entry_in_latex(entry: Entry) -> str:
    text = in_latex(entry.text)
    return (rf"\textbf{{{text}}}" if entry.bold else text) + in_latex(entry.rest)


def _in_markdown(entry: Entry) -> str:
    text = _escaped(entry.text)
    return (f"**{text}**" if entry.bold else text) + _escaped(entry.rest)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")
