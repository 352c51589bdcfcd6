"""From sections to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lesion_exp.report.blocks import Section


@dataclass(frozen=True)
class Page:
    """A page before it is text."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    """What stands below the title: the run's id, its status, the day."""
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML: style and drawings are inside, no address outside is ever asked for."""
    environment = Environment(
        loader=PackageLoader("lesion_exp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("lesion_exp.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(page=page, style=Markup(style))
