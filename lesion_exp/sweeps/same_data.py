"""Compares data, code and versions of the runs of a sweep's cells with one another and with the current ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from lesion_exp.config.own_code import code_tags
from lesion_exp.config.registered import trusted_packages
from lesion_exp.data.data_fingerprint import TOTAL_TAG, DataFingerprint, part_differences, parts_of
from lesion_exp.errors import UserError
from lesion_exp.sweeps.cell import CELL_TAG, Cell
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.tracking.environment import CODE_TAG, current_versions, version_differences
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training.data import load_data, present_fingerprint

UNREADABLE: Final = "data, which cannot be read here"
_OF_DATA: Final = ("dataset.", "task.", "split.path")
"""Prefixes of the parameters that determine which data a run reads."""


class CurrentData:
    """The current data of the jobs of cells, and the current versions; the job of one cell is read for all on its data.

    Images are decoded only if cells run on this machine.
    """

    def __init__(self, *, here: bool) -> None:
        self._here = here
        self._known: dict[str, DataFingerprint | None] = {}
        self._params: dict[str, dict[str, str]] = {}
        self._last: tuple[str, Mapping[str, Any]] = ("", {})
        """The data that were asked for last, as a `data_key`, and the config of a cell on them."""

    @cached_property
    def versions(self) -> dict[str, str]:
        """The tags with the versions of this process."""
        return current_versions()

    def code(self, cell: Cell) -> dict[str, str]:
        """Returns the tags with the current state of the user's own code that the job of a cell uses."""
        return code_tags(cell.job().config) if trusted_packages() else {}

    def other_code(self, cell: Cell, tags: Mapping[str, str]) -> list[str]:
        """Returns the user's packages whose code is not known to be that of the run with `tags` of the same job."""
        return [name.removeprefix(CODE_TAG) for name, text in self.code(cell).items() if tags.get(name) != text]

    def params(self, cell: Cell) -> dict[str, str]:
        """Returns the parameters of the data set of a cell, as its run records them."""
        key = cell.data_key()
        if key not in self._params:
            flat = flat_params({"dataset": self._config(key, cell)["dataset"]})
            self._params[key] = {name: text for name, text in flat.items() if name.startswith("dataset.")}
        return self._params[key]

    def differences(self, cell: Cell, tags: Mapping[str, str]) -> list[str]:
        """Returns the differences between the data of `cell` and those of the run with `tags`, in words.

        A run without a fingerprint is assumed to have the same data.
        """
        if TOTAL_TAG not in tags:
            return []
        key = cell.data_key()
        if key not in self._known:
            self._known[key] = self._read(self._config(key, cell))
        found = self._known[key]
        return [UNREADABLE] if found is None else found.differences(tags)

    def _config(self, key: str, cell: Cell) -> Mapping[str, Any]:
        if self._last[0] != key:
            self._last = (key, cell.job().config)
        return self._last[1]

    def _read(self, config: Mapping[str, Any]) -> DataFingerprint | None:
        try:
            found = present_fingerprint(config)
            return load_data(config).data if found is None and self._here else found
        except UserError:
            return None


def changes_since_start(sweep: Sweep, store: Store, current: CurrentData) -> list[str]:
    """Returns a sentence for each difference between runs of earlier attempts and the current data and versions."""
    runs = _cell_runs(sweep, store)
    said = _sentences(
        runs,
        lambda run: current.differences(sweep.cell(int(run.tags[CELL_TAG])), run.tags),
        "begun on data that differ from the current ones, in",
    )

    def other_versions(run: Run) -> list[str]:
        code = current.code(sweep.cell(int(run.tags[CELL_TAG])))
        return version_differences(run.tags, {**current.versions, **code})

    return [*said, *_sentences(runs, other_versions, "begun with another")]


def differences_between_cells(sweep: Sweep, store: Store) -> list[str]:
    """Returns a sentence for each difference in data, code or versions between the finished cells of `sweep`.

    Cells with different data sets or options of them, which the sweep intends, are not compared.
    """
    runs = [run for run in _cell_runs(sweep, store) if run.status == "FINISHED"]
    newest: dict[tuple[tuple[str, str], ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.started):
        newest[_data_params(run)] = run
    said = _sentences(
        runs,
        lambda run: part_differences(parts_of(run.tags), parts_of(newest[_data_params(run)].tags)),
        "trained on data that differ from those of the last comparable cell, in",
    )
    last: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: run.started):
        last |= run.tags  # cells may use different packages of the user
    versions = _sentences(runs, lambda run: _other_versions(run, last), "trained with another")
    return [*said, *versions]


def _other_versions(run: Run, last: Mapping[str, str]) -> list[str]:
    return [f"{line.removesuffix(' now')} later" for line in version_differences(run.tags, last)]


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
