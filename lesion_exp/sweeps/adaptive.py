"""Connects a search that chooses the next cell from earlier results with the ledger of its sweep."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from lesion_exp.config.freeze import Job
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.cell import PRUNED, UNFINISHED, Cell, CellState, will_repeat, work_key
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.sweeps.plan import CellMaker, check_cell, make_search
from lesion_exp.sweeps.search.search import AdaptiveSearch, Dimension, Suggestion

log = logging.getLogger(__name__)

MOST_REFUSED: Final = 10
MOST_REPEATED: Final = 100
"""Consecutive proposals that would only repeat a failure, after which a search counts as exhausted."""


@dataclass
class SearchSession:
    """Asks the search for cells, freezes their jobs, and reports their results to the search."""

    sweep: Sweep
    search: AdaptiveSearch
    maker: CellMaker
    num_reported: dict[int, int] = field(default_factory=dict)
    """Number of epochs that were reported to the search, by cell."""
    unusable: set[Suggestion] = field(default_factory=set)
    """Proposed combinations that cannot be used, or have failed."""
    num_cells: int = 0
    """Number of cells in the ledger."""
    finished: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of the finished cells in order, by their `work_key`."""
    failed: dict[str, int] = field(default_factory=dict)
    """Number of the first cell that would fail again, by its `work_key`."""

    @classmethod
    def of(cls, sweep: Sweep) -> Self | None:
        """Returns the session of `sweep`; None if its search determines all cells in advance."""
        search = make_search(dict(sweep.facts.search))
        if not isinstance(search, AdaptiveSearch):
            return None
        facts, conf = sweep.facts, sweep.conf_folders()
        maker = CellMaker(
            facts.fixed,
            conf[1:],
            sweep.project.root,
            dict(facts.runs),
            dict(facts.data_folders),
            conf=conf[0],
            folder=None if facts.folder is None else Path(facts.folder),
        )
        dimensions = [Dimension(**{**body, "values": tuple(body["values"])}) for body in facts.space]
        cells = sweep.cells()
        search.begin(dimensions, sweep.folder, {number for cell in cells if (number := cell.trial()) is not None})
        adaptive = cls(sweep, search, maker, num_cells=len(cells))
        for cell in cells:
            adaptive.tell(cell)
        return adaptive

    def next_cell(self) -> Cell | None:
        """Adds the next cell that the search proposes; None if the search is finished or exhausted.

        Each single value was checked when the sweep was planned. A combination that cannot be used is skipped, and so
        is one whose job has failed in an earlier cell, since it would fail again.

        Raises:
            ConfigError: too many consecutive combinations cannot be used.
        """
        refused = repeated = 0
        while (asked := self.search.ask()) is not None:
            trial, suggestion = asked
            try:
                job = self._new_job(suggestion)
            except ConfigError as error:
                self.unusable.add(suggestion)
                refused += 1
                if refused == MOST_REFUSED:
                    self.search.drop(trial)
                    raise
                log.warning("left out a cell: %s", error)
                job = None
            if job is not None:
                cell = self.sweep.add(self.num_cells, job, suggestion, trial)
                self.num_cells += 1
                return cell
            self.search.drop(trial)
            repeated += 1
            if repeated == MOST_REPEATED:
                log.warning("the search proposes only combinations that have failed already: no further cell is tried")
                self.sweep.exhausted_file.touch()
                return None
        return None

    def _new_job(self, suggestion: Suggestion) -> Job | None:
        """The job of a combination; None if it is known to fail.

        Raises:
            ConfigError: the combination cannot be used.
        """
        if suggestion in self.unusable:
            return None
        job = self.maker.freeze(suggestion)
        failed = self.failed.get(work_key(job))
        if failed is None:
            check_cell(job, suggestion, self.sweep.facts.launcher)
            return job
        self.unusable.add(suggestion)
        log.info("a combination is not tried again: %s, which failed as cell %d", " ".join(suggestion), failed)
        return None

    def tell(self, cell: Cell) -> None:
        """Reports the epochs of a cell to the search, and if it has ended its result."""
        state, trial = cell.state(), cell.trial()
        self._remember(cell, state)
        if trial is None:
            return
        self._relay(cell, trial)
        if state.status in UNFINISHED:
            return
        found = [state.metrics.get(f"best/{name}") for name in self.search.metrics]
        values = (
            None if None in found or state.status != "finished" else [value for value in found if value is not None]
        )
        self.search.tell(trial, values, pruned=state.note == PRUNED)

    def _remember(self, cell: Cell, state: CellState) -> None:
        """Makes a cell that has ended known by its `work_key`."""
        key = cell.work_key()
        if state.status == "finished":
            numbers = self.finished.setdefault(key, [])
            place = bisect_left(numbers, cell.number)
            if numbers[place : place + 1] != [cell.number]:
                numbers.insert(place, cell.number)
        elif will_repeat(state):
            self.failed[key] = min(cell.number, self.failed.get(key, cell.number))

    def reuse_duplicate(self, cell: Cell, fits: Callable[[Cell], bool]) -> bool:
        """Finishes `cell` with the results of an earlier cell of the same job, if there is one; returns whether so.

        `fits` says whether the run of the earlier cell was trained on the current data.
        """
        for number in self.finished.get(cell.work_key(), ()):
            if number > cell.number:
                return False
            earlier = self.sweep.cell(number)
            if fits(earlier):
                state = earlier.state()
                note = PRUNED if state.note == PRUNED else f"the same job as cell {earlier.number}"
                cell.write(status="finished", run_id=state.run_id, metrics=dict(state.metrics), note=note)
                log.info("cell %d is the same job as cell %d", cell.number, earlier.number)
                self.tell(cell)
                return True
        return False

    def relay_reports(self, cells: Sequence[Cell]) -> None:
        """Passes the reports of running cells to the search, and stops the cells that it prunes."""
        for cell in cells:
            trial = cell.trial()
            if trial is not None and self._relay(cell, trial):
                cell.stop_file.touch()

    def _relay(self, cell: Cell, trial: int) -> bool:
        """Passes the new reports of a cell to the search; returns whether the search prunes the cell."""
        should_stop = False
        for report in cell.epochs()[self.num_reported.get(cell.number, 0) :]:
            self.num_reported[cell.number] = self.num_reported.get(cell.number, 0) + 1
            value = report.get(self.search.metrics[0])
            if value is not None:
                should_stop |= self.search.should_stop(trial, report["epoch"], value)
        return should_stop
