"""Runs compared on their stored predictions; the comparison is a run of its own in MLflow."""

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
from lesion_exp.evaluation.comparison import FAMILIES, PERMUTATION, SIGNIFICANT, Comparison, compared
from lesion_exp.evaluation.figures.differences import differences_figure
from lesion_exp.evaluation.pairing import aligned
from lesion_exp.evaluation.predictions import unknown_counts, unknown_in_words
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, download_artifact, find_run, read_predictions
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store
from lesion_exp.verbs.compare.comparison_report import ComparisonReport
from lesion_exp.verbs.compare.jobs import ComparedJob, config_differences, jobs_of, taken_apart
from lesion_exp.verbs.compare.tables import show_report

ALL: Final = "ALL"
"""In place of a letter: all runs, where they are seeds of one job."""
KIND: Final = "comparison"
"""The tag `kind` of a comparison's run."""
_COMPARED: Final = ("test", "val")
"""Parts that can be compared, the better one first."""
_TEXT_WIDTH: Final = 120
_MOST_VERDICTS: Final = 10
"""In the description of the comparison's run."""
_LONGEST_NAME: Final = 200
_LONGEST_NOTE: Final = 7500
"""MLflow keeps 8000 characters of a tag."""


@dataclass(frozen=True)
class Compared:
    """A comparison and the run that keeps it."""

    report: ComparisonReport
    run_id: str
    figure: Path


def compare(
    store: Store,
    specs: Sequence[str],
    *,
    against: str | None = None,
    part: str | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Compared:
    """The comparison of the runs that `specs` name (see `find.find_run`), kept as a run of the first one's experiment.

    Args:
        store: store of the runs.
        specs: two runs or more.
        against: a run whose job all others are compared with; None compares every pair.
        part: `test` or `val`; None is `test` where every run has it, else `val`.
        draws: number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        ConfigError: fewer than two runs, or a run that is not found or named twice.
        DataError: the runs have no predictions of one part, or these are of different images, labels or classes.
    """
    runs = [find_run(store, spec) for spec in specs]
    base = find_run(store, against) if against else None
    if base and base.run_id not in {run.run_id for run in runs}:
        runs.append(base)
    if len(runs) < 2:
        raise ConfigError(f"expected at least 2 runs to compare, got {len(runs)}; name one more")
    with Stage(f"comparing {len(runs)} runs"):
        report = _report(runs, base, part, draws, seed)
    with _start(store, report) as run:
        run.log_json(report.to_dict() | {"run_id": run.run_id}, f"{artifacts.COMPARISON}.json")
        run.log_text(_text(report), f"{artifacts.COMPARISON}.txt")
        title = f"differences on the {PARTS[report.part]} part"
        figure = differences_figure(report.comparison, {job.letter: job.title for job in report.jobs}, title)
        run.log_figure(figure, artifacts.COMPARISON_FIGURE, f"{PARTS[report.part]} part")
    return Compared(report, run.run_id, download_artifact(find_run(store, run.run_id), artifacts.COMPARISON_FIGURE))


def _report(runs: Sequence[Run], base: Run | None, part: str | None, draws: int, seed: int) -> ComparisonReport:
    chosen, notes = _choose_part(runs, part)
    jobs = jobs_of(runs)
    is_one_job = len(jobs) == 1
    if is_one_job:
        jobs = taken_apart(jobs[0])
        notes.append(f"one job with {len(jobs)} seeds: its runs are compared one by one; ALL is their mean")
    tables = aligned({_label(run): read_predictions(run, chosen) for job in jobs for run in job.runs})
    places = iter(range(len(tables)))
    groups = {job.letter: [next(places) for _ in job.runs] for job in jobs}
    pairs = list(combinations(groups, 2))
    if base:
        second = next(job.letter for job in jobs if base.run_id in {run.run_id for run in job.runs})
        pairs = [(letter, second) for letter in groups if letter != second]
    if is_one_job:
        groups[ALL] = list(range(len(tables)))
    found = compared(list(tables.values()), groups, pairs, draws=draws, seed=seed)
    notes += [*_notes_on_unknown(jobs[0].runs[0], chosen), *_notes_on_runs(jobs), *_notes_on_draws(found, draws)]
    return ComparisonReport(chosen, jobs, found, config_differences(jobs), tuple(notes), draws, seed)


def _choose_part(runs: Sequence[Run], asked: str | None) -> tuple[str, list[str]]:
    """The part that is compared, and what is to be said of it."""
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
            f"expected runs that all keep their predictions of one part; some did not:\n{first_cases(cases)}\n"
            f"They are made when a run ends (for the test part: with test=true); leave these runs out, or resume them."
        )
    notes = []
    if chosen == "val":
        reason = f", since {', '.join(without['test'])} kept no predictions of the test part" if asked is None else ""
        notes.append(f"compared on validation{reason}: the best epoch of each run was chosen on these very images")
    return chosen, notes


def _notes_on_unknown(run: Run, part: str) -> list[str]:
    counts = unknown_counts(read_predictions(run, part, with_unknown=True))
    return [unknown_in_words(counts)] if counts else []


def _predictions(run: Run, part: str) -> Path | None:
    return run.fetch(artifacts.predictions(part))


def _notes_on_runs(jobs: Sequence[ComparedJob]) -> list[str]:
    runs = [run for job in jobs for run in job.runs]
    leaky = [_label(run) for run in runs if run.tags.get("leaky") == "true"]
    unfinished = [f"{_label(run)} is {run.status}" for run in runs if run.status != "FINISHED"]
    splits = {run.tags.get("split_hash") for run in runs}
    return [
        *(
            [f"leaky: {', '.join(leaky)} trained on lesions that are tested here, or on copies of them"]
            if leaky
            else []
        ),
        *([f"not finished: {', '.join(unfinished)}"] if unfinished else []),
        *(["the runs were split differently: their training images differ, too"] if len(splits) > 1 else []),
    ]


def _notes_on_draws(found: Comparison, draws: int) -> list[str]:
    """A warning where the smallest p-value that exchanged answers can give, corrected, could never be significant."""
    if all(difference.test != PERMUTATION for pair in found.pairs for difference in pair.differences.values()):
        return []
    smallest, num_pairs = 1 / (1 + draws), len(found.pairs)
    if FAMILIES * smallest * num_pairs < SIGNIFICANT:
        return []
    needed = math.ceil(2 * FAMILIES / SIGNIFICANT * num_pairs / 1000) * 1000
    return [
        f"with {draws:,} draws no p-value but that of accuracy is below {smallest:.4f}, which {num_pairs} pairs make "
        f"too coarse; take evaluation.bootstrap_draws={needed}"
    ]


def _start(store: Store, report: ComparisonReport) -> TrackedRun:
    runs = [run for job in report.jobs for run in job.runs]
    experiment = store.client.get_experiment(runs[0].experiment_id).name
    tags = {
        "kind": KIND,
        "compared_runs": ",".join(run.run_id for run in runs),
        "compared_part": report.part,
        "mlflow.note.content": _note(report)[:_LONGEST_NOTE],
    }
    name = f"compare {' / '.join(dict.fromkeys(job.name for job in report.jobs))}"[:_LONGEST_NAME]
    params = {"part": report.part, "bootstrap_draws": report.draws, "bootstrap_seed": report.seed}
    return TrackedRun.start(store, experiment, name, tags, params, system_metrics_seconds=0)


def _note(report: ComparisonReport) -> str:
    """The description of the comparison's run: the verdicts, and what was compared, with links."""
    found = report.comparison
    lines = [f"{found.num_images:,} images of {found.num_lesions:,} lesions, {PARTS[report.part]} part."]
    lines += [f"**{note}**" for note in report.notes]
    lines += [f"**{pair.first} - {pair.second}**: {report.verdict(pair)}" for pair in found.pairs[:_MOST_VERDICTS]]
    if len(found.pairs) > _MOST_VERDICTS:
        lines.append(f"{len(found.pairs) - _MOST_VERDICTS} more pairs stand in compare/comparison.txt.")
    jobs = []
    for job in report.jobs:
        links = (f"[{run.run_id[:8]}](#/experiments/{run.experiment_id}/runs/{run.run_id})" for run in job.runs)
        jobs.append(f"- **{job.letter}** {job.name}: {', '.join(links)}")
    return "\n\n".join([*lines, "\n".join(jobs)])


def _text(report: ComparisonReport) -> str:
    console = Console(file=io.StringIO(), width=_TEXT_WIDTH, highlight=False, color_system=None)
    show_report(report, console, every_pair=True)
    assert isinstance(console.file, io.StringIO), "it was made so"
    return console.file.getvalue()


def _label(run: Run) -> str:
    return f"{run.run_id[:8]} ({run.name})"
