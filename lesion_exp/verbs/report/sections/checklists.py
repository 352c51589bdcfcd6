"""The section with the reporting checklists, and the checklists, filled from the run as far as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import yaml
from markupsafe import Markup

from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import baseline_sentence, headline
from lesion_exp.verbs.report.blocks import Block, Section, Table, Text
from lesion_exp.verbs.report.checklists import on_data, on_model, on_results
from lesion_exp.verbs.report.sections.question import question_of

NAMES: Final = ("clear_derm", "tripod_ai", "claim")
Answer = Callable[[RunSummary], str | None]
ANSWERS: Final[Mapping[str, Answer]] = {
    **{
        answer.__name__: answer
        for answer in (
            on_data.images, on_data.source, on_data.generated, on_data.artefacts, on_data.characteristics,
            on_data.unknown_attributes, on_data.skin_tone, on_data.partitions, on_data.disjoint, on_data.sizes,
            on_data.class_counts, on_data.classes, on_data.flow, on_data.exclusions, on_data.missing, on_data.shift,
            on_model.title, on_model.preprocessing, on_model.inputs, on_model.architecture, on_model.initialisation,
            on_model.training, on_model.model, on_model.selection, on_model.ensemble, on_model.imbalance,
            on_model.output, on_model.computed, on_model.weights_kept, on_model.code, on_model.job,
            on_results.performance, on_results.diagnostic, on_results.measures, on_results.uncertainty,
            on_results.subgroups, on_results.clusters, on_results.recalibration, on_results.external,
            on_results.robustness, on_results.explanations, on_results.failures, on_results.limits,
        )
    },
    "question": question_of,
    "headline": headline,
    "floor": baseline_sentence,
    "software": on_model.software_and_machine,
}  # fmt: skip
"""The functions that answer items from a run, by the names that the checklists use."""


@dataclass(frozen=True)
class Item:
    """An entry of a checklist."""

    item: str
    topic: str
    asks: str
    answer: str | None = None
    """A key of `ANSWERS`; None if only the author knows the answer."""
    section: str | None = None
    """The section of the page with the details."""
    author: str | None = None
    """What the author must always add."""


@dataclass(frozen=True)
class Checklist:
    """A published checklist for the reports of studies."""

    name: str
    title: str
    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Filled:
    """An item with the answer of the run, with what is left to the author, or with both."""

    item: Item
    answer: str | None
    left: str | None


@cache
def read_checklist(name: str) -> Checklist:
    """Returns the checklist of a name in `NAMES`."""
    text = resources.files("lesion_exp.verbs.report.checklists").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    body = yaml.safe_load(text)
    return Checklist(name, body["title"], body["source"], tuple(Item(**item) for item in body["items"]))


def fill(checklist: Checklist, facts: RunSummary) -> list[Filled]:
    """Returns every item with its answer; items whose answer the run did not store are left to the author."""
    return [_filled(item, None if item.answer is None else ANSWERS[item.answer](facts)) for item in checklist.items]


def _filled(item: Item, answer: str | None) -> Filled:
    if answer or item.answer is None:
        return Filled(item, answer, item.author)
    asked = f"{item.asks[:1].lower()}{item.asks[1:]} (not stored by this run)"
    return Filled(item, None, f"{asked}; {item.author}" if item.author else asked)


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
