"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lesion_exp.trained_runs.run_artifacts import RunArtifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import NONE, moment
from lesion_exp.verbs.report.blocks import Section
from lesion_exp.verbs.report.page import Page
from lesion_exp.verbs.report.sections.calibration import calibration
from lesion_exp.verbs.report.sections.confusion import confusion
from lesion_exp.verbs.report.sections.curves import curves
from lesion_exp.verbs.report.sections.failures import failures
from lesion_exp.verbs.report.sections.results import results
from lesion_exp.verbs.report.sections.subgroups import subgroups
from lesion_exp.verbs.report.sweep_sections.cells import cells, failed
from lesion_exp.verbs.report.sweep_sections.choices import choices
from lesion_exp.verbs.report.sweep_sections.origin import config, reproduce
from lesion_exp.verbs.report.sweep_sections.question import question
from lesion_exp.verbs.report.sweep_sections.repeats import repeats
from lesion_exp.verbs.report.swept import Swept

SECTIONS: Final[tuple[Callable[[Swept], Section], ...]] = (
    question, repeats, choices, cells, failed, config, reproduce,
)  # fmt: skip
"""In the order of the page."""
OF_FOLDS: Final[tuple[Callable[[RunSummary], Section], ...]] = (
    results, confusion, curves, calibration, subgroups, failures,
)  # fmt: skip
"""Sections of a run that the page of a cross-validation has as well, once its folds are judged as one."""


def sweep_page(swept: Swept) -> Page:
    """The page of a sweep, from its cells."""
    parent = swept.parent
    told = {
        "sweep": parent.tags.get("sweep_id", NONE),
        "run": parent.run_id,
        "status": parent.status.lower(),
        "started": moment(parent.started),
    }
    sections, facts = [make(swept) for make in SECTIONS], RunSummary(parent, RunArtifacts(parent))
    if facts.predictions is not None:
        place = SECTIONS.index(failed)
        sections[place:place] = [make(facts) for make in OF_FOLDS]
    return Page(parent.name or "sweep", "Report of a sweep", told, sections, facts.class_meanings)
