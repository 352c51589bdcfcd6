"""From sections to one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lesion_exp.evaluation.figures.labels import shortened
from lesion_exp.verbs.report.abbreviations import Explained
from lesion_exp.verbs.report.blocks import Section

_LONGEST_FOOT: Final = 90
"""Letters at the foot of a printed page."""


@dataclass(frozen=True)
class Page:
    """A page before it is text."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    """What stands below the title: the run's id, its status, the day."""
    sections: Sequence[Section]
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Abbreviations of this page alone, such as the codes of its classes, in full."""


class Numbers:
    """Counts the figures and the tables of a page."""

    def __init__(self) -> None:
        self._last: Counter[str] = Counter()

    def next(self, kind: Literal["Figure", "Table"]) -> str:
        """`Figure 1`, then `Figure 2`; tables have numbers of their own."""
        self._last[kind] += 1
        return f"{kind} {self._last[kind]}"


def render(page: Page) -> str:
    """The page as HTML: style and drawings are inside, no address outside is ever asked for.

    Figures and tables are numbered, abbreviations explained below the block that first uses them; a printed page has
    its number and the title of the report at its foot.
    """
    environment = Environment(
        loader=PackageLoader("lesion_exp.verbs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("lesion_exp.verbs.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    foot = shortened(f"{page.subtitle}: {page.title}", _LONGEST_FOOT)
    style += f"@page {{ @bottom-left {{ content: {css_string(foot)}; }} }}\n"
    return environment.get_template("page.html").render(
        page=page, style=Markup(style), numbers=Numbers(), explained=Explained(page.meanings)
    )


def css_string(text: str) -> Markup:
    """`text` as a string of a style sheet; whatever is no letter, digit or space is escaped."""
    plain = "".join(
        char if char.isascii() and (char.isalnum() or char == " ") else f"\\{ord(char):x} " for char in text
    )
    return Markup(f'"{plain}"')
