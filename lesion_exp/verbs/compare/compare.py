"""Compares runs by their stored predictions and stores the comparison as a new run in MLflow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from rich.console import Console

from lesion_exp.errors import ConfigError, DataError, check_choice, first_cases
from lesion_exp.evaluation.comparison import (
    FAMILIES,
    PERMUTATION,
    SIGNIFICANT,
    AddedMetric,
    Comparison,
    compared,
)
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.lesion_counts import warnings_of_lesions
from lesion_exp.evaluation.pairing import aligned, with_most_patients
from lesion_exp.evaluation.predictions import classes_of, has_labels_only, is_rescaled, unknown_counts, unknown_in_words
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import (
    IMPORTED,
    SEEN_TAG,
    Run,
    check_classifies,
    download_artifact,
    read_predictions,
    unit_of_any,
)
from lesion_exp.training.added_metrics import added_to_any
from lesion_exp.verbs.compare.comparison_report import ComparisonReport
from lesion_exp.verbs.compare.jobs import ComparedJob, config_differences, jobs_of, one_job_for_each_run
from lesion_exp.verbs.compare.tables import show_report

ALL: Final = "ALL"
"""The letter of the group of all runs, if they differ only in their seed."""
KIND: Final = "comparison"
"""The tag `kind` of the run of a comparison."""
_COMPARED: Final = ("test", "val")
"""The parts that can be compared, in order of preference."""
_TEXT_WIDTH: Final = 120
_MOST_VERDICTS: Final = 10
"""The largest number of pairs in the description of the run."""
_LONGEST_NAME: Final = 200
_LONGEST_DESCRIPTION: Final = 7500
"""MLflow stores 8000 characters of a tag."""


@dataclass(frozen=True)
class Compared:
    """A comparison and the run that stores it."""

    report: ComparisonReport
    run_id: str
    figure: Path


def compare(
    store: Store,
    specs: Sequence[str],
    *,
    against: str | None = None,
    part: str | None = None,
    unit: Unit | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Compared:
    """Compares the runs that `specs` name (see `find.find_run`) and stores the result in the first one's experiment.

    Args:
        store: store of the runs.
        specs: two or more runs.
        against: a run with whose job all others are compared; None compares every pair.
        part: `test` or `val`; None is `test` if every run has predictions of it, else `val`.
        unit: what intervals and tests take together, the images of a lesion or those of a patient; None is `patient`
            if the intervals of any of the runs are over patients, else `lesion`.
        draws: number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        ConfigError: there are fewer than two runs, a run is not found or named twice, or the unit is patients and no
            image has one.
        DataError: no part has predictions of all runs, or these have different images, labels or classes.
    """
    runs = [find_run(store, spec) for spec in specs]
    base = find_run(store, against) if against else None
    if base and base.run_id not in {run.run_id for run in runs}:
        runs.append(base)
    if len(runs) < 2:
        raise ConfigError(f"expected at least 2 runs to compare, got {len(runs)}; name another one")
    with Stage(f"comparing {len(runs)} runs"):
        report = _report(runs, base, part, unit, draws, seed)
    from lesion_exp.evaluation.figures.forest_plots import differences_figure  # after what may be refused

    with _start(store, report) as run:
        run.log_json(report.to_dict() | {"run_id": run.run_id}, f"{artifacts.COMPARISON}.json")
        run.log_text(_text(report), f"{artifacts.COMPARISON}.txt")
        title = f"differences on the {PARTS[report.part]} part"
        figure = differences_figure(report.comparison, {job.letter: job.title for job in report.jobs}, title)
        run.log_figure(figure, artifacts.COMPARISON_FIGURE, f"{PARTS[report.part]} part")
    return Compared(report, run.run_id, download_artifact(find_run(store, run.run_id), artifacts.COMPARISON_FIGURE))


def _report(
    runs: Sequence[Run], base: Run | None, part: str | None, asked: Unit | None, draws: int, seed: int
) -> ComparisonReport:
    chosen, notes = _choose_part(runs, part)
    unit = asked or unit_of_any(runs, chosen)
    jobs = jobs_of(runs)
    is_one_job = len(jobs) == 1
    if is_one_job:
        jobs = one_job_for_each_run(jobs[0])
        notes.append(f"one job with {len(jobs)} seeds: its runs are compared with each other; ALL is their mean")
    tables = aligned({_label(run): read_predictions(run, chosen) for job in jobs for run in job.runs})
    places = iter(range(len(tables)))
    groups = {job.letter: [next(places) for _ in job.runs] for job in jobs}
    pairs = list(combinations(groups, 2))
    if base:
        second = next(job.letter for job in jobs if base.run_id in {run.run_id for run in job.runs})
        pairs = [(letter, second) for letter in groups if letter != second]
    if is_one_job:
        groups[ALL] = list(range(len(tables)))
    classes = classes_of(next(iter(tables.values())))
    scores, left_out = added_to_any([job.config for job in jobs], len(classes))
    added = {name: AddedMetric(score, higher) for name, (score, higher) in scores.items()}
    found = compared(list(tables.values()), groups, pairs, draws=draws, seed=seed, added=added, unit=unit)
    labels_only = [label for label, table in tables.items() if has_labels_only(table)]
    rescaled = [label for label, table in tables.items() if is_rescaled(table)]
    notes += [
        *left_out,
        *warnings_of_lesions(with_most_patients(list(tables.values())), unit),
        *([_without_probabilities(labels_only)] if labels_only else []),
        *([_with_rescaled(rescaled)] if rescaled else []),
        *_notes_on_unknown(jobs[0].runs[0], chosen),
        *_notes_on_runs(jobs),
        *_notes_on_draws(found, draws),
    ]
    return ComparisonReport(chosen, jobs, found, config_differences(jobs), tuple(notes), draws, seed)


def _choose_part(runs: Sequence[Run], asked: str | None) -> tuple[str, list[str]]:
    """The part to compare, and notes on the choice."""
    for run in runs:
        check_classifies(run, "a comparison")
    if asked is not None:
        check_choice("split.part", asked, _COMPARED)
    without = {
        part: [_label(run) for run in runs if _predictions(run, part) is None]
        for part in (_COMPARED if asked is None else [asked])
    }
    chosen = next((part for part, missing in without.items() if not missing), None)
    if chosen is None:
        cases = [f"without predictions/{part}.parquet: {', '.join(runs)}" for part, runs in without.items()]
        raise DataError(
            f"expected runs that have all stored their predictions of one part, but some have not:\n"
            f"{first_cases(cases)}\nPredictions are stored when a run ends (for the test part: with test=true); leave "
            f"these runs out, or resume them."
        )
    notes = []
    if chosen == "val":
        reason = f", because {', '.join(without['test'])} stored no predictions of the test part" if not asked else ""
        notes.append(f"compared on validation{reason}: the best epoch of each run was chosen by these images")
    return chosen, notes


def _without_probabilities(labels: Sequence[str]) -> str:
    return (
        f"{', '.join(labels)} predicted classes without probabilities: areas, calibration and losses are not compared"
    )


def _with_rescaled(labels: Sequence[str]) -> str:
    return (
        f"{', '.join(labels)} had confidences that were divided by their sums (rescale=true), which changes the order "
        f"of the images: its areas and losses are not those of the confidences"
    )


def _notes_on_unknown(run: Run, part: str) -> list[str]:
    counts = unknown_counts(read_predictions(run, part, with_unknown=True))
    return [unknown_in_words(counts)] if counts else []


def _predictions(run: Run, part: str) -> Path | None:
    return run.fetch(artifacts.predictions(part))


def _notes_on_runs(jobs: Sequence[ComparedJob]) -> list[str]:
    runs = [run for job in jobs for run in job.runs]
    leaky = [_label(run) for run in runs if run.tags.get("leaky") == "true"]
    seen = [
        f"the initial weights of {_label(run)} have seen {run.tags[SEEN_TAG]}" for run in runs if SEEN_TAG in run.tags
    ]
    unfinished = [f"{_label(run)} is {run.status}" for run in runs if run.status != "FINISHED"]
    splits = {run.tags.get("split_hash") for run in runs}
    imported = [_label(run) for run in runs if run.tags.get("kind") == IMPORTED]
    return [
        *([f"leaky: {', '.join(leaky)} trained on lesions of the test part, or on copies of them"] if leaky else []),
        *seen,
        *([f"not finished: {', '.join(unfinished)}"] if unfinished else []),
        *([f"imported: it is not known what {', '.join(imported)} was trained on"] if imported else []),
        *(["the runs have different splits, so their training images differ, too"] if len(splits) > 1 else []),
    ]


def _notes_on_draws(found: Comparison, draws: int) -> list[str]:
    """A warning if the smallest possible p-value of the randomization test, corrected, is not significant."""
    if all(difference.test != PERMUTATION for pair in found.pairs for difference in pair.differences.values()):
        return []
    smallest, num_pairs = 1 / (1 + draws), len(found.pairs)
    if FAMILIES * smallest * num_pairs < SIGNIFICANT:
        return []
    needed = math.ceil(2 * FAMILIES / SIGNIFICANT * num_pairs / 1000) * 1000
    return [
        f"with {draws:,} draws no p-value except that of accuracy can be below {smallest:.4f}, which is not small "
        f"enough for {num_pairs} pairs; set evaluation.bootstrap_draws={needed}"
    ]


def _start(store: Store, report: ComparisonReport) -> TrackedRun:
    runs = [run for job in report.jobs for run in job.runs]
    experiment = store.client.get_experiment(runs[0].experiment_id).name
    tags = {
        "kind": KIND,
        "compared_runs": ",".join(run.run_id for run in runs),
        "compared_part": report.part,
        "mlflow.note.content": _description(report)[:_LONGEST_DESCRIPTION],
    }
    name = f"compare {' / '.join(dict.fromkeys(job.name for job in report.jobs))}"[:_LONGEST_NAME]
    params = {
        "part": report.part,
        "unit": report.comparison.unit,
        "bootstrap_draws": report.draws,
        "bootstrap_seed": report.seed,
    }
    return TrackedRun.start(store, experiment, name, tags, params, system_metrics_seconds=0)


def _description(report: ComparisonReport) -> str:
    """The description of the run: the verdict on each pair, and links to the compared runs."""
    found = report.comparison
    lines = [f"{found.num_images:,} images of {found.counted(found.num_lesions)}, {PARTS[report.part]} part."]
    lines += [f"**{note}**" for note in report.notes]
    lines += [f"**{pair.first} - {pair.second}**: {report.verdict(pair)}" for pair in found.pairs[:_MOST_VERDICTS]]
    if len(found.pairs) > _MOST_VERDICTS:
        lines.append(f"{len(found.pairs) - _MOST_VERDICTS} more pairs are in compare/comparison.txt.")
    jobs = []
    for job in report.jobs:
        links = (f"[{run.run_id[:8]}](#/experiments/{run.experiment_id}/runs/{run.run_id})" for run in job.runs)
        jobs.append(f"- **{job.letter}** {job.name}: {', '.join(links)}")
    return "\n\n".join([*lines, "\n".join(jobs)])


def _text(report: ComparisonReport) -> str:
    console = Console(file=io.StringIO(), width=_TEXT_WIDTH, highlight=False, color_system=None)
    show_report(report, console, every_pair=True)
    assert isinstance(console.file, io.StringIO), "created above"
    return console.file.getvalue()


def _label(run: Run) -> str:
    return f"{run.run_id[:8]} ({run.name})"
