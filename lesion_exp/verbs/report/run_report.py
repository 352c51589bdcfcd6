"""The page of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.stored_run import Run, check_classifies
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.trained_runs.wording import moment
from lesion_exp.verbs.report.blocks import Section
from lesion_exp.verbs.report.page import Page
from lesion_exp.verbs.report.sections.calibration import calibration
from lesion_exp.verbs.report.sections.checklists import checklists
from lesion_exp.verbs.report.sections.curves import curves
from lesion_exp.verbs.report.sections.galleries import failures, galleries
from lesion_exp.verbs.report.sections.origin import config, environment, reproduce
from lesion_exp.verbs.report.sections.question import question
from lesion_exp.verbs.report.sections.results import confusion, results
from lesion_exp.verbs.report.sections.split import data_flow, split
from lesion_exp.verbs.report.sections.subgroups import subgroups
from lesion_exp.verbs.report.sections.training import training

SECTIONS: Final[tuple[Callable[[RunSummary], Section], ...]] = (
    question, data_flow, split, training, results, confusion, curves, calibration, subgroups, galleries, failures,
    config, environment, reproduce,
)  # fmt: skip
"""The sections in the order of the page. The checklists, which refer to them, are the last section."""
_WITHOUT_RESULTS: Final = ("preview", "comparison")


def run_page(run: Run) -> Page:
    """Returns the page of `run`, from its stored results; a note names what it did not store.

    Raises:
        ConfigError: the run is a preview, a comparison, a sweep or a pretraining.
    """
    kind = run.tags.get("kind", "train")
    if kind == "sweep":
        raise ConfigError(
            f"expected a run that was trained or evaluated, got the sweep {run.run_id}; use sweep={run.run_id}"
        )
    if kind in _WITHOUT_RESULTS:
        raise ConfigError(
            f"expected a run that was trained or evaluated, got {run.run_id} of kind {kind}; name another run"
        )
    check_classifies(run, "a report")
    facts = RunSummary(run, RunArtifacts(run))
    sections = [make(facts) for make in SECTIONS]
    sections.append(checklists(facts, {section.key: section.title for section in sections}))
    below_title = {"run": run.run_id, "status": run.status.lower(), "started": moment(run.started)}
    return Page(run.name or run.run_id, "Report of a run", below_title, sections, facts.class_meanings)
