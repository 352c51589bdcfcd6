"""The MLflow run of a sweep itself, in which the runs of its cells are nested."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Final, Self

from lesion_exp.evaluation.figures.forest_plots import ChoiceRow, choices_figure
from lesion_exp.evaluation.registry import OF_SEVERAL_RUNS
from lesion_exp.sweeps.choices import is_repeat
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.sweeps.same_data import differences_between_cells
from lesion_exp.sweeps.summary import Row, Summary, as_frame, as_markdown, digest
from lesion_exp.text_table import write_csv
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.environment import source_state
from lesion_exp.tracking.find import READS_TAG, find_tagged
from lesion_exp.tracking.mlflow_values import allowed_name
from lesion_exp.tracking.run import Status, TrackedRun
from lesion_exp.tracking.run_description import LEAKS_TAG, OVER_SEEDS_TAG, SCORE_TAGS, artifact_picture, score_tags
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.view import VIEWS, cells_link, surplus_sweeps, sweep_view, sweep_view_key, view_link

log = logging.getLogger(__name__)

KIND: Final = {"kind": "sweep"}
FACTS_FILE: Final = artifacts.SWEEP_FACTS
PICTURE: Final = artifacts.SWEEP_FIGURE
NOTE_TAG: Final = "mlflow.note.content"
"""The tag with the description of a run."""
_LEAKY: Final = "leaky"
_TRIED: Final = ("finished", "failed")
"""The statuses of cells that were trained to an end."""
_UNKNOWN_RUN: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""The codes with which MLflow answers for a run that it does not have."""
_OF_RESULTS: Final = frozenset(
    {"best_cell", "best_run_id", "best_cells", "best_choice", "pareto_cells", LEAKS_TAG, OVER_SEEDS_TAG}
) | set(SCORE_TAGS.values())
"""The tags that hold only while the finished cells are the same, and are removed if they have no value any more."""


def is_concluded(summary: Summary) -> bool:
    """Returns whether the sweep's run was finished with the current states of the cells."""
    return summary.sweep.conclusion() == digest(summary)


def _start(sweep: Sweep, store: Store) -> TrackedRun:
    facts = sweep.facts
    tags = {**KIND, "sweep_id": facts.sweep_id, **source_state().tags()}
    name = f"sweep of {', '.join(facts.keys)}"
    return TrackedRun.start(store, facts.store["tracking"]["experiment"], name, tags, system_metrics_seconds=0)


class ParentRun:
    """A context manager that starts or resumes the sweep's run and updates it while the sweep is driven."""

    def __init__(self, sweep: Sweep, store: Store) -> None:
        known = find_tagged(store, {"sweep_id": sweep.facts.sweep_id, **KIND})
        # the process that drives the sweep holds its lock
        self._run = _start(sweep, store) if known is None else TrackedRun.resume(store, known.run_id, is_alone=True)
        try:
            self._write_facts(sweep)
        except BaseException as error:
            self._run.__exit__(type(error), error, error.__traceback__)
            raise
        self.sweep = sweep.with_parent(self._run.run_id)
        self.run_id = self._run.run_id
        self._logged = dict(self._run.metrics_at_start)
        """The last value of each metric, by its name in MLflow."""

    def _write_facts(self, sweep: Sweep) -> None:
        """Logs the description of the sweep, unless an earlier driver has."""
        facts = sweep.facts
        self._run.log_missing_params({"sweep": {"overrides": " ".join(facts.overrides), "search": dict(facts.search)}})
        if not self._run.has_file(FACTS_FILE):
            self._run.log_text(json.dumps(asdict(facts), indent=1), FACTS_FILE)

    def update(self, summary: Summary) -> None:
        """Logs the numbers of finished and failed cells and the best values so far, if cells have ended."""
        self._log_state(summary)

    def _log_state(self, summary: Summary) -> None:
        counts = summary.counts()
        values = {f"sweep/{status}": float(counts.get(status, 0)) for status in _TRIED}
        values |= {f"sweep/best/{name}": value for name, value in summary.best_values().items()}
        self._log(values, summary)

    def _log(self, values: Mapping[str, float], summary: Summary) -> None:
        """Logs metrics that have changed. Their step is the number of tried cells, or a later one after a retry."""
        tried = sum(summary.counts().get(status, 0) for status in _TRIED)
        named = {allowed_name(name): value for name, value in values.items()}
        if tried and any(self._logged.get(name) != value for name, value in named.items()):
            self._run.log_metrics(values, step=max(tried, self._run.next_step(values)))
            self._logged |= named

    def finish(self, summary: Summary) -> None:
        """Logs the table of cells and the best choice, and sets the final status."""
        self._log_state(summary)
        with self._run.new_file(artifacts.SWEEP_CELLS) as path:
            write_csv(as_frame(summary), path)
        remarks = differences_between_cells(self.sweep, self._run.store)
        for remark in remarks:
            log.warning("%s; their results are not comparable", remark)
        averaged = _averaged(summary)
        means, leaky = _mean_results(averaged), any(_is_leaky(self._run.store, row) for row in averaged)
        tags: dict[str, object] = {NOTE_TAG: "\n\n".join([*self._described(summary), *remarks])}
        tags["mixed"] = bool(remarks)
        tags |= {_LEAKY: leaky, **score_tags(means, leaky)}
        tags[READS_TAG] = sum(any(name.startswith("test/") for name in row.state.metrics) for row in summary.rows)
        tags |= _best_tags(summary)
        if over_seeds := summary.choices.best_over_seeds():
            tags[OVER_SEEDS_TAG] = over_seeds
        self._log(means, summary)
        self._tag_cells(summary)
        self._run.set_tags(tags)
        self._run.delete_tags(sorted((_OF_RESULTS & self._run.tags_at_start.keys()) - tags.keys()))
        counts = summary.counts()
        status: Status = "FINISHED" if set(counts) <= {"finished"} else "FAILED" if "failed" in counts else "KILLED"
        self._run.finish(status)
        self.sweep.note_conclusion(digest(summary))

    def _described(self, summary: Summary) -> list[str]:
        """The blocks of the description: a link to the view of the cells, the table of choices and its picture."""
        blocks = [as_markdown(summary)]
        rows = _choice_rows(summary)
        if rows:
            self._run.log_figure(choices_figure(rows, summary.metrics[0]), PICTURE, f"a sweep of {summary.total} cells")
            blocks.append(artifact_picture("The choices", self._run.run_id, PICTURE))
            key = sweep_view_key(summary.sweep.facts.sweep_id)
            keys = [name for name in summary.sweep.facts.keys if not is_repeat(name)]
            view = sweep_view(self._run.name, summary.sweep.facts.sweep_id, keys)
            self._run.store.client.set_experiment_tag(self._run.experiment_id, f"{VIEWS}{key}", view)
            _remove_surplus_views(self._run.store, self._run.experiment_id, summary.sweep.facts.sweep_id)
            link = f"[Its cells as a table, and in parallel coordinates]({view_link(self._run.experiment_id, key)})"
            blocks.insert(0, link)  # first, since the page takes the clicks further down: see run_description
        return blocks

    def _tag_cells(self, summary: Summary) -> None:
        """Tags each cell with the result of its choice over seeds and folds."""
        found, runs = summary.choices, {row.number: row.state.run_id for row in summary.rows}
        for choice in found.ranked:
            text = found.over_seeds(choice)
            for number in choice.cells if text else ():
                _tag(self._run.store, runs[number], text)

    def __enter__(self) -> Self:
        self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)


def _remove_surplus_views(store: Store, experiment_id: str, kept: str) -> None:
    """Removes the oldest views of sweeps, except that of `kept`, if the experiment has too many.

    The runs of these sweeps then link to their cells without a view.
    """
    from mlflow.exceptions import MlflowException

    try:
        tags = store.client.get_experiment(experiment_id).tags
        for sweep_id in (found for found in surplus_sweeps(tags) if found != kept):
            key, run = sweep_view_key(sweep_id), find_tagged(store, {"sweep_id": sweep_id, **KIND})
            if run is not None:
                links = view_link(experiment_id, key), cells_link(experiment_id, sweep_id)
                store.client.set_tag(run.run_id, NOTE_TAG, run.tags.get(NOTE_TAG, "").replace(*links))
            store.client.delete_experiment_tag(experiment_id, f"{VIEWS}{key}")
    except MlflowException as error:  # another process removes it, too, or the server is older
        log.debug("a view of an earlier sweep was not removed: %s", error)


def _tag(store: Store, run_id: str | None, text: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        if run_id is not None:
            store.client.set_tag(run_id, OVER_SEEDS_TAG, text)
    except MlflowException as error:
        if error.error_code not in _UNKNOWN_RUN:
            raise
        log.warning("run %s is no longer in the store, so it gets no tag with the result of its choice", run_id)


def _best_tags(summary: Summary) -> dict[str, object]:
    """Tags with the best choice and its cells; a single seed or fold is never the best."""
    rows, best = summary.best_rows(), summary.best()
    if len(summary.metrics) > 1:
        return {"pareto_cells": ",".join(str(row.number) for row in rows)}
    tags: dict[str, object] = {}
    if rows:
        tags["best_choice"] = summary.choices.front[0].text
        tags["best_cells"] = ",".join(str(row.number) for row in rows)
    if best is not None:
        tags["best_cell"], tags["best_run_id"] = best.number, best.state.run_id or ""
    return tags


def _choice_rows(summary: Summary) -> list[ChoiceRow]:
    """The rows of the picture of choices, the best mean first."""
    if not summary.choices.ranked:
        return []
    metric = summary.metrics[0]
    values = {row.number: row.metrics[metric] for row in summary.rows if metric in row.metrics}
    return [
        ChoiceRow(choice.text, [values[number] for number in choice.cells], result.mean, result.low, result.high,
                  result.differs)
        for choice in summary.choices.ranked
        for result in [choice.results[metric]]
    ]  # fmt: skip


def _averaged(summary: Summary) -> list[Row]:
    """The cells whose mean is the result of the sweep: of the best choice, or all if only seeds or folds differ.

    There are none for several metrics, and if no choice can be the best.
    """
    ranked = summary.choices.ranked
    if len(summary.metrics) > 1 or not ranked:
        return []
    if summary.choices.front:
        return summary.best_rows()
    numbers = () if ranked[0].values else ranked[0].cells
    return [row for row in summary.rows if row.number in numbers]


def _mean_results(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each result that all of `rows` have."""
    found = [row.state.metrics for row in rows]
    names = [name for name in OF_SEVERAL_RUNS if found and all(name in one for one in found)]
    return {name: statistics.fmean(one[name] for one in found) for name in names}


def _is_leaky(store: Store, row: Row) -> bool:
    """Whether the run of a cell is marked as leaky; a run that is no longer in the store is not."""
    from mlflow.exceptions import MlflowException

    try:
        return row.state.run_id is not None and store.client.get_run(row.state.run_id).data.tags.get(_LEAKY) == "true"
    except MlflowException as error:
        if error.error_code not in _UNKNOWN_RUN:
            raise
        return False
