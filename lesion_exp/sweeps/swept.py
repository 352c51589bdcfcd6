"""A sweep for its page: from its ledger if that is on this machine, else from the artifacts of its run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.registry import WATCHED_METRIC, direction_of, shown_in
from lesion_exp.sweeps.choices import Choices, group_cells, is_repeat
from lesion_exp.sweeps.ledger import FOLD, Sweep, find_sweep, names_sweep
from lesion_exp.sweeps.summary import as_json, summarize
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.run_names import SWEEPS_LISTED, unknown_sweep
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import PARENT_TAG, Run
from lesion_exp.trained_runs.run_summary import RunArtifacts

FACTS: Final = artifacts.SWEEP_FACTS
CELLS: Final = artifacts.SWEEP_CELLS
LATEST: Final = "latest"
TEST: Final = tuple(f"test/{name}" for name in shown_in("sweep"))
"""The metrics of the test part that the page shows if cells have them."""
_KIND: Final = "tags.kind = 'sweep'"
_ID: Final = re.compile(r"[\w-]+")
"""Whatever may be the beginning of the id of a sweep or of a run."""


@dataclass(frozen=True)
class SweptCell:
    """A cell of a sweep."""

    number: int
    values: Mapping[str, str]
    """Its values of the keys in which cells differ."""
    status: str
    metrics: Mapping[str, float]
    """The metrics of the search at the best epoch, and `test/...` if the test part was evaluated."""
    run_id: str | None
    seconds: float | None
    note: str
    error: str
    end_of_log: str

    @property
    def text(self) -> str:
        """The overrides of the cell, in one line."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "as composed"


@dataclass(frozen=True)
class Swept:
    """A sweep with its cells."""

    parent: Run
    facts: Mapping[str, Any]
    """The content of `sweep.json`; empty if it is not stored."""
    cells: Sequence[SweptCell]
    metrics: Sequence[str]
    """The metrics of the search, such as `val/balanced_accuracy`."""
    directions: Sequence[str]

    @property
    def keys(self) -> list[str]:
        """The keys in which cells differ."""
        return list(self.facts.get("keys") or dict.fromkeys(key for cell in self.cells for key in cell.values))

    @property
    def choice_keys(self) -> list[str]:
        """The keys in which cells differ, except seeds and folds."""
        return [key for key in self.keys if not is_repeat(key)]

    @property
    def are_folds(self) -> bool:
        """Whether the cells are folds of one job."""
        return self.keys == [FOLD]

    @cached_property
    def finished(self) -> list[SweptCell]:
        """The finished cells that have every metric of the search."""
        return [
            cell
            for cell in self.cells
            if cell.status == "finished" and all(name in cell.metrics for name in self.metrics)
        ]

    @cached_property
    def choices(self) -> Choices:
        """The finished cells, grouped by their values of `choice_keys`, the best mean first."""
        skips = bool(self.facts.get("skip_bad_images"))
        return group_cells(self.finished, self.metrics, self.directions, TEST, skip_bad_images=skips)

    @cached_property
    def best(self) -> list[SweptCell]:
        """The cells of the best choice, or with several metrics of the choices on the Pareto front.

        It is empty if cells only differ in seeds or folds, because these are not choices.
        """
        numbers = {number for choice in self.choices.front for number in choice.cells}
        return [cell for cell in self.finished if cell.number in numbers]


def find_swept(store: Store, folder: Path, spec: str) -> Swept:
    """Returns the sweep that `spec` names.

    Args:
        store: the store of the runs.
        folder: the folder of the project's ledgers.
        spec: the id of the sweep or of its run, the beginning of one of them, or `latest`.

    Raises:
        ConfigError: `spec` names no sweep or several.
    """
    try:
        sweep = find_sweep(folder, spec)
        if sweep.facts.parent_run_id is not None:
            return _from_ledger(find_run(store, sweep.facts.parent_run_id), sweep)
    except ConfigError:
        if spec == LATEST and not any(True for _ in runs_where(store, _KIND)):
            raise
    return _from_store(_parent(store, spec))


def _parent(store: Store, spec: str) -> Run:
    if spec == LATEST and (newest := next(runs_where(store, _KIND), None)):
        return newest
    matches = _named(store, spec)
    if len(matches) != 1:
        shown = matches or list(islice(runs_where(store, _KIND), SWEEPS_LISTED))
        sweeps = [(run.tags.get("sweep_id"), run.run_id, run.name) for run in shown]
        raise ConfigError(unknown_sweep(store.uri, spec, len(matches), sweeps))
    return matches[0]


def _named(store: Store, spec: str) -> list[Run]:
    """The runs of the sweeps that `spec` names, which the store finds by the beginnings of ids."""
    if not _ID.fullmatch(spec):
        return []
    conditions = (f"tags.sweep_id LIKE '{spec}%'", f"attributes.run_id LIKE '{spec.lower()}%'")
    found = [run for condition in conditions for run in runs_where(store, f"{_KIND} AND {condition}")]
    unique = {run.run_id: run for run in found if names_sweep(spec, run.tags.get("sweep_id", ""), run.run_id)}
    return sorted(unique.values(), key=lambda run: -run.started)


def _from_ledger(parent: Run, sweep: Sweep) -> Swept:
    summary = summarize(sweep)
    body = as_json(summary)
    cells = [
        SweptCell(
            cell["cell"],
            cell["overrides"],
            cell["status"],
            _plain(cell["metrics"]),
            cell["run_id"],
            cell["ended"] - cell["started"] if cell["ended"] and cell["started"] else None,
            cell["note"] or "",
            cell["error"] or "",
            cell["end_of_log"] or "",
        )
        for cell in body["cells"]
    ]
    facts = json.loads((sweep.folder / "sweep.json").read_text(encoding="utf-8"))
    return Swept(parent, facts, cells, summary.metrics, summary.directions)


def _from_store(parent: Run) -> Swept:
    kept = RunArtifacts(parent)
    facts = kept.mapping(FACTS)
    search = facts.get("search", {})
    metrics, directions = (_listed(search.get(key)) for key in ("metric", "direction"))
    table, text = None, kept.text(CELLS)
    if text is not None:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    cells = _children(parent) if table is None else [_of_row(row, facts) for _, row in table.iterrows()]
    return Swept(parent, facts, cells, metrics or [WATCHED_METRIC], directions or [direction_of(WATCHED_METRIC)])


def _of_row(row: pd.Series, facts: Mapping[str, Any]) -> SweptCell:
    return SweptCell(
        int(row["cell"]),
        {key: row[key] for key in facts.get("keys", []) if row.get(key)},
        row["status"],
        {str(name): float(row[name]) for name in row.index if str(name).startswith(("val/", "test/")) and row[name]},
        row["run_id"] or None,
        float(row["seconds"]) if row["seconds"] else None,
        row["note"],
        row["error"],
        "",
    )


def _children(parent: Run) -> list[SweptCell]:
    """The cells from their own runs, if the run of the sweep has no table of them because it did not end."""
    found = list(runs_where(parent.store, f"tags.`{PARENT_TAG}` = '{parent.run_id}' AND tags.kind = 'train'"))[::-1]
    return [
        SweptCell(
            number,
            {},
            run.status.lower(),
            _plain(run.results()),
            run.run_id,
            None,
            run.name,
            run.tags.get("error", ""),
            "",
        )
        for number, run in enumerate(found)
    ]


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    """The values of the best epoch, without their prefix, and those of the test part; all values if there is no best
    epoch."""
    best = {name.removeprefix("best/"): value for name, value in metrics.items() if name.startswith("best/")}
    test = {name: value for name, value in metrics.items() if name.startswith("test/")}
    return best | test if best else dict(metrics)


def _listed(value: Any) -> list[str]:
    return [] if value is None else [str(part) for part in value] if isinstance(value, list) else [str(value)]
