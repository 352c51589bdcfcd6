"""The section with the reporting checklists, filled from the run as far as possible."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.verbs.report.blocks import Block, Section, Table, Text
from lesion_exp.verbs.report.checklists.checklist import NAMES, Checklist, Filled, fill, read_checklist


def checklists(facts: RunSummary, titles: Mapping[str, str]) -> Section:
    """Returns the section with all checklists; `titles` has the titles of the page's sections by their keys."""
    blocks: list[Block] = [
        Text(
            "The items are paraphrased and have the answers of the run; what only an author can add is marked. The "
            "published checklists have the full wording."
        )
    ]
    for name in NAMES:
        blocks += _blocks(read_checklist(name), facts, titles)
    return Section("checklists", "Reporting checklists", blocks)


def _blocks(checklist: Checklist, facts: RunSummary, titles: Mapping[str, str]) -> list[Block]:
    filled = fill(checklist, facts)
    whole = sum(entry.left is None for entry in filled)
    partly = sum(bool(entry.answer and entry.left) for entry in filled)
    rest = len(filled) - whole - partly
    intro = Markup(
        "<strong>{}</strong> ({}): of {} items the run answers {}, {} in part, and leaves {} to the author."
    ).format(checklist.title, checklist.source, len(filled), whole, partly, rest)
    rows = [
        [
            entry.item.item,
            Markup("<strong>{}</strong><br>{}").format(entry.item.topic, entry.item.asks),
            _said(entry),
            _place(entry, titles),
        ]
        for entry in filled
    ]
    return [Text(intro), Table(checklist.title, ["item", "what is asked", "answer", "where"], rows, wraps=True)]


def _said(entry: Filled) -> Markup:
    parts = []
    if entry.answer:
        parts.append(Markup("<span>{}</span>").format(entry.answer))
    if entry.left:
        parts.append(Markup('<span class="author">Author to fill: {}</span>').format(entry.left))
    return Markup(" ").join(parts)


def _place(entry: Filled, titles: Mapping[str, str]) -> Markup | str:
    section = entry.item.section
    if section is None or not entry.answer:
        return ""
    return Markup('<a href="#{}">{}</a>').format(section, titles[section])
