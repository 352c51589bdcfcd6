"""Reporting checklists, and filling them from a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import yaml

from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import headline, majority_baseline
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
    "floor": majority_baseline,
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
    left = item.author if answer or item.author else f"{item.asks[:1].lower()}{item.asks[1:]} (not stored by this run)"
    return Filled(item, answer, left)
