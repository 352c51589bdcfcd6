"""A page of sections as one self-contained HTML file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lesion_exp.evaluation.figures.style import shortened
from lesion_exp.verbs.report.blocks import Block, Figures, Matrix, Note, Picture, Section, Table, Text

MEANINGS: Final = {
    "AI": "artificial intelligence",
    "APS": "adaptive prediction sets",
    "AUROC": "area under the receiver operating characteristic curve; 0.5 is chance, 1 is perfect",
    "CLAIM": "Checklist for Artificial Intelligence in Medical Imaging",
    "CLEAR Derm": "Checklist for Evaluation of Image-Based Artificial Intelligence Reports in Dermatology",
    "F1": "harmonic mean of precision and sensitivity",
    "FPR": "false positive rate, 1 - specificity",
    "Grad-CAM": "gradient-weighted class activation mapping",
    "ISIC": "International Skin Imaging Collaboration",
    "LAC": "least ambiguous set-valued classifier",
    "NPV": "negative predictive value",
    "PPV": "positive predictive value, the same as precision",
    "ROC": "receiver operating characteristic: sensitivity against 1 - specificity at every threshold",
    "TPR": "true positive rate, the same as sensitivity",
    "TRIPOD+AI": "Transparent Reporting of a multivariable prediction model for Individual Prognosis Or Diagnosis, "
    "with its extension to artificial intelligence",
    "n": "number of images of the class",
    "sd": "standard deviation",
}  # fmt: skip
"""The abbreviations on pages, except the names of classes."""


class Explained:
    """The abbreviations that a page has explained so far.

    Args:
        meanings: further abbreviations of this page, such as the codes of its classes.
    """

    def __init__(self, meanings: Mapping[str, str]) -> None:
        self._left = {**MEANINGS, **meanings}

    def first_used_in(self, block: Block) -> list[tuple[str, str]]:
        """Returns the abbreviations that `block` is the first to use, and their meanings, in the order of their use."""
        if not self._left:
            return []
        names = "|".join(re.escape(name) for name in sorted(self._left, key=len, reverse=True))
        pattern = rf"(?<![\w+/.=-])(?:{names})(?![\w+/=-]|\.\w)"
        found = dict.fromkeys(name for words in _words(block) for name in re.findall(pattern, words))
        return [(name, self._left.pop(name)) for name in found]


def _words(block: Block) -> Iterator[str]:
    """The texts of a block, except code and pairs of names and values."""
    if isinstance(block, Text | Note):
        yield _plain(block.text)
    elif isinstance(block, Table):
        yield from (block.caption, *(column.removeprefix(">") for column in block.columns))
        yield from (_plain(cell) for row in block.rows for cell in _without_bars(row))
    elif isinstance(block, Matrix):
        yield from (block.caption, *block.classes)
    elif isinstance(block, Figures):
        for figure in block.figures:
            yield from (figure.caption, *(entry.name for entry in figure.legend))
    elif isinstance(block, Picture):
        yield block.caption


def _without_bars(row: Sequence[str | Markup]) -> Iterator[str | Markup]:
    return (cell for cell in row if not cell.startswith("<svg"))


def _plain(text: str | Markup) -> str:
    return text.striptags() if isinstance(text, Markup) else text


_LONGEST_FOOT: Final = 90
"""The largest number of letters at the foot of a printed page."""


@dataclass(frozen=True)
class Page:
    """The content of a page."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    """Names and values below the title, such as the id of the run, its status and its start."""
    sections: Sequence[Section]
    meanings: Mapping[str, str] = field(default_factory=dict)
    """The meanings of further abbreviations, such as the codes of classes."""


class Numbers:
    """The numbers of the figures and the tables of a page."""

    def __init__(self) -> None:
        self._last: Counter[str] = Counter()

    def next(self, kind: Literal["Figure", "Table"]) -> str:
        """Returns `Figure 1`, then `Figure 2`, and so on; tables are counted separately."""
        self._last[kind] += 1
        return f"{kind} {self._last[kind]}"


def render(page: Page) -> str:
    """Returns the page as HTML with all styles and pictures, which requests nothing from the network.

    Figures and tables are numbered, and abbreviations are explained below the block that uses them first. Printed pages
    have their number and the title at the foot.
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
    """Returns `text` as a string of a style sheet, with everything but letters, digits and spaces escaped."""
    plain = "".join(
        char if char.isascii() and (char.isalnum() or char == " ") else f"\\{ord(char):x} " for char in text
    )
    return Markup(f'"{plain}"')
