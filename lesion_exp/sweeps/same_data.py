"""Whether the runs of a sweep's cells were made from the same data and versions as one another, and as of today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lesion_exp.data.data_fingerprint import TOTAL_TAG, DataFingerprint, part_differences, parts_of
from lesion_exp.errors import UserError
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.sweeps.run_cell import CELL_TAG
from lesion_exp.tracking.environment import version_differences
from lesion_exp.tracking.find import Run, runs_where
from lesion_exp.tracking.store import Store
from lesion_exp.training.data import load_data, present_fingerprint

UNREADABLE: Final = "data, which cannot be read here"
_OF_DATA: Final = ("dataset.", "task.", "split.path")
"""Beginnings of the parameters that say which data a run reads."""


class CurrentData:
    """The data of jobs as they are now, each read once; images are decoded only where cells run on this machine."""

    def __init__(self, *, here: bool) -> None:
        self._here = here
        self._known: dict[str, DataFingerprint | None] = {}

    def differences(self, config: Mapping[str, Any], tags: Mapping[str, str]) -> list[str]:
        """What differs between the data that `config` names and those of the run with `tags`, in words.

        A run that recorded no fingerprint at all is taken at its word.
        """
        if TOTAL_TAG not in tags:
            return []
        key = json.dumps([config[node] for node in ("dataset", "task", "image_size")] + [config["split"].get("path")])
        if key not in self._known:
            self._known[key] = self._read(config)
        found = self._known[key]
        return [UNREADABLE] if found is None else found.differences(tags)

    def _read(self, config: Mapping[str, Any]) -> DataFingerprint | None:
        try:
            found = present_fingerprint(config)
            return load_data(config).data if found is None and self._here else found
        except UserError:
            return None


def changes_since_start(sweep: Sweep, store: Store, today: CurrentData) -> list[str]:
    """A sentence for each way in which runs of earlier attempts differ from what would be trained now."""
    runs = _cell_runs(sweep, store)
    said = _sentences(
        runs,
        lambda run: today.differences(sweep.cells()[int(run.tags[CELL_TAG])].job().config, run.tags),
        "begun on other data than those of today, in",
    )
    return [*said, *_sentences(runs, lambda run: version_differences(run.tags), "begun with another")]


def differences_between_cells(sweep: Sweep, store: Store) -> list[str]:
    """A sentence for each way in which the finished cells of `sweep` differ in their data or versions.

    Cells that are to differ, because the sweep goes over data sets or their options, are not compared.
    """
    runs = [run for run in _cell_runs(sweep, store) if run.status == "FINISHED"]
    newest: dict[tuple[tuple[str, str], ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.started):
        newest[_data_params(run)] = run
    said = _sentences(
        runs,
        lambda run: part_differences(parts_of(run.tags), parts_of(newest[_data_params(run)].tags)),
        "trained on other data than the last of their kind, in",
    )
    last = max(runs, key=lambda run: run.started, default=None)
    versions = [] if last is None else _sentences(runs, lambda run: _other_versions(run, last), "trained with another")
    return [*said, *versions]


def _other_versions(run: Run, last: Run) -> list[str]:
    return [f"{line.removesuffix(' now')} later" for line in version_differences(run.tags, last.tags)]


def _cell_runs(sweep: Sweep, store: Store) -> list[Run]:
    found = runs_where(store, f"tags.sweep_id = '{sweep.facts.sweep_id}'")
    return [run for run in found if CELL_TAG in run.tags]


def _data_params(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in run.params.items() if name.startswith(_OF_DATA)))


def _sentences(runs: Iterable[Run], differences: Callable[[Run], list[str]], what: str) -> list[str]:
    cells: dict[str, set[int]] = {}
    for run in runs:
        for words in differences(run):
            cells.setdefault(words, set()).add(int(run.tags[CELL_TAG]))
    numbers = {words: ", ".join(map(str, sorted(found))) for words, found in cells.items()}
    return [
        f"cell{'s' if ',' in listed else ''} {listed} {'were' if ',' in listed else 'was'} {what}: {words}"
        for words, listed in numbers.items()
    ]
