"""Drives a sweep: passes cells to the launcher, watches the ledger, and updates the sweep's own run in MLflow."""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections import deque
from collections.abc import Collection
from contextlib import ExitStack
from typing import Final

from lesion_exp.config.instantiate import check_installed
from lesion_exp.data.lock import hold, is_held, release
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.progress import Stage
from lesion_exp.sweeps.adaptive import SearchSession
from lesion_exp.sweeps.cell import STOPPED, UNFINISHED, Cell
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.sweeps.parent_run import ParentRun, is_concluded
from lesion_exp.sweeps.same_data import CurrentData, changes_since_start
from lesion_exp.sweeps.summary import KnownRows, Summary, summarize
from lesion_exp.tracking.environment import version_differences
from lesion_exp.tracking.find import find_finished, find_run
from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
_MOST_SHOWN: Final = 4
"""Number of running cells in a progress line."""
RUNNING_SECONDS: Final = 5.0
"""How old the known states of running cells may be, of which a launcher may have a thousand."""
ENDING_SECONDS: Final = 90.0
"""Time that cells have to close their runs after they are asked to end."""


def drive(sweep: Sweep, launcher: Launcher, store: Store, again: Collection[str] = ()) -> Summary:
    """Runs every queued cell of `sweep`, and repeats those whose status is in `again`.

    If this is interrupted, the cells are asked to end, and the ledger contains the state of each; a later call
    continues.

    Raises:
        ConfigError: another process drives the sweep, or a device or engine is missing.
    """
    check_installed({"search": dict(sweep.facts.search)})
    if not hold(sweep.lock):
        name = sweep.facts.sweep_id
        raise ConfigError(
            f"expected a sweep that no process runs, but another process runs {name}; "
            f"{next_command('sweep', 'status', name)} shows its cells, and "
            f"{next_command('sweep', 'cancel', name)} ends it"
        )
    with ExitStack() as stack:
        stack.callback(release, sweep.lock)
        stack.callback(launcher.close)
        sweep.cancel_file.unlink(missing_ok=True)
        for cell in sweep.cells() if again else ():
            if cell.state().status in again:
                cell.write(status="queued", note=None)
                cell.record_engine_id(None)
        launcher.open(sweep)
        if launcher.other_machines and store.database is not None:
            log.warning(
                "warning: the cells write their runs to %s from several machines, but SQLite coordinates only the "
                "processes of one machine: runs may be lost or the file damaged. Start an MLflow server, and name it "
                "by tracking.uri=http://HOST:5000 or MLFLOW_TRACKING_URI",
                store.database,
            )
        parent = stack.enter_context(ParentRun(sweep, store))
        log.info("sweep %s, run %s", sweep.facts.sweep_id, parent.run_id)
        return _Driver(parent, launcher, store, SearchSession.of(parent.sweep)).run()


def lacks_conclusion(sweep: Sweep) -> bool:
    """Returns whether every cell has ended, but the driver ended before it finished the sweep's run."""
    summary = summarize(sweep)
    return not ({"queued", "running"} & set(summary.counts()) or is_concluded(summary) or is_driven(sweep))


def conclude(sweep: Sweep, store: Store) -> Summary:
    """Finishes the run of the sweep if it `lacks_conclusion`, and returns the summary."""
    if not lacks_conclusion(sweep) or not hold(sweep.lock):
        return summarize(sweep)
    try:
        with ParentRun(sweep, store) as parent:
            summary = summarize(parent.sweep)
            parent.update(summary)
            parent.finish(summary)
            log.info(
                "the run %s of the sweep is now marked as finished: the process that ran it had ended", parent.run_id
            )
    finally:
        release(sweep.lock)
    return summary


def is_driven(sweep: Sweep) -> bool:
    """Returns whether a process on this machine drives the sweep."""
    return bool(is_held(sweep.lock))


class _Driver:
    def __init__(self, parent: ParentRun, launcher: Launcher, store: Store, adaptive: SearchSession | None) -> None:
        self.parent, self.sweep, self.launcher, self.store = parent, parent.sweep, launcher, store
        self.adaptive = adaptive
        self.rows = KnownRows(self.sweep)
        self.queued: deque[Cell] = deque()
        self.started: dict[int, Cell] = {}
        self.orphaned: dict[int, Cell] = {}
        """Cells that are still running, started by an earlier driver."""
        self.current_data = CurrentData(here=launcher.here)
        self.ending = False
        self._running_read = -math.inf
        """When the rows of running cells were read last, on the monotonic clock."""

    def run(self) -> Summary:
        if any(row.state.attempts for row in self.rows):
            for sentence in changes_since_start(self.sweep, self.store, self.current_data):
                log.warning(
                    "%s; lesion-exp train -m with the same overrides starts a new sweep, which reuses the cells that "
                    "fit",
                    sentence,
                )
        for row in self.rows:
            cell = self.sweep.cell(row.number)
            if row.state.status not in UNFINISHED or self._adopt(cell):
                continue
            if row.state.status == "running":
                self.orphaned[cell.number] = cell
            else:
                self.queued.append(cell)
        try:
            self._loop()
        finally:
            self._end_cells()
        if self.sweep.cancel_file.exists():
            cancel_waiting(self.sweep)
        summary = summarize(self.sweep)
        self.parent.finish(summary)
        return summary

    def _loop(self) -> None:
        with Stage("running", self.rows.summary().total, "cells", announced=False) as stage:
            self._run_cells(stage)

    def _run_cells(self, stage: Stage) -> None:
        while not self.ending:
            self._start_cells()
            self._show(stage)
            if not (self.started or self.orphaned):
                return
            for ended in self.launcher.wait(POLL_SECONDS):
                del self.started[ended.cell.number]
                self._note(ended)
            self._check_orphaned()
            if self.adaptive is not None:
                self.adaptive.relay_reports([*self.started.values(), *self.orphaned.values()])
            self.ending = self.ending or self.sweep.cancel_file.exists()

    def _show(self, stage: Stage) -> None:
        """Shows how many cells are done, and the epochs of the first of those that are running."""
        running = []
        for number in heapq.nsmallest(_MOST_SHOWN, self.started):
            epochs = self.started[number].epochs()
            last = f"at epoch {epochs[-1]['epoch']} of {epochs[-1]['max_epochs']}" if epochs else "begins"
            running.append(f"{number} {last}")
        stage.reach(self.rows.num_ended, f"cell {', '.join(running)}" if running else "")

    def _adopt(self, cell: Cell) -> bool:
        adopted = self.launcher.adopt(cell)
        if adopted:
            self.started[cell.number] = cell
        return adopted

    def _done_before(self, cell: Cell) -> bool:
        """Finishes a cell that was never tried and whose job has a finished run; returns whether there is one."""
        _, job_hash = cell.facts()
        if self.rows[cell.number].state.attempts:
            return False
        if self.adaptive is not None and self.adaptive.reuse_duplicate(cell, self._fits):
            return True
        if self.sweep.facts.force:
            return False
        for run in find_finished(self.store, job_hash):
            if run.tags.get("pruned") != "true" and self.current_data.params(cell).items() <= run.params.items():
                if changed := self.current_data.differences(cell, run.tags):
                    log.info(
                        "cell %d was done before as run %s, but on data that differ in: %s; it is trained again",
                        cell.number,
                        run.run_id,
                        "; ".join(changed),
                    )
                    continue
                if other := self.current_data.other_code(cell, run.tags):
                    log.info(
                        "cell %d was done before as run %s, but not with the present code of %s; it is trained again",
                        cell.number,
                        run.run_id,
                        ", ".join(other),
                    )
                    continue
                versions = version_differences(run.tags, self.current_data.versions)
                others = [f"made with another {words}" for words in versions]
                note = "; ".join(["done before; force=true repeats it", *others])
                cell.write(status="finished", run_id=run.run_id, metrics=run.results(), note=note)
                log.info("cell %d was done before, as run %s: %s", cell.number, run.run_id, note)
                if self.adaptive is not None:
                    self.adaptive.tell(cell)
                return True
        return False

    def _fits(self, earlier: Cell) -> bool:
        """Whether the run of an earlier cell was trained on the current data, with the current code of the user."""
        run_id = earlier.state().run_id  # of another cell if this one took over its results
        try:
            run = None if run_id is None else find_run(self.store, run_id)
        except ConfigError:  # it was deleted
            return True
        if run is None:
            return True
        return not (self.current_data.differences(earlier, run.tags) or self.current_data.other_code(earlier, run.tags))

    def _start_cells(self) -> None:
        """Starts as many cells as are free to run; whether one was done before is looked up when its turn comes."""
        batch: list[Cell] = []
        num_ended, free = self.rows.num_ended, self.launcher.capacity - len(self.started)
        while len(batch) < free and (cell := self._next_cell()) is not None:
            if self._done_before(cell):
                self.rows.read(cell)
            else:
                batch.append(cell)
        if self.rows.num_ended > num_ended:
            self.parent.update(self._summary())
        if batch:
            for cell in batch:
                log.info("cell %d starts: %s", cell.number, " ".join(cell.facts()[0]))
            self.launcher.start(batch)
            self.started.update({cell.number: cell for cell in batch})

    def _next_cell(self) -> Cell | None:
        """The next queued cell, or the next one that the search proposes; None if there is none."""
        if self.queued:
            return self.queued.popleft()
        cell = self.adaptive.next_cell() if self.adaptive is not None else None
        if cell is not None:
            self.rows.read(cell)
        return cell

    def _note(self, ended: Ended) -> None:
        """Records the end of a cell, which its own process may not have done."""
        cell, state = ended.cell, ended.cell.state()
        if state.status in UNFINISHED:
            reason = f"{STOPPED}: {ended.reason}" if ended.reason else STOPPED
            state = cell.write(status="queued", note=reason, ended=time.time())
        if self.adaptive is not None:
            self.adaptive.tell(cell)
        row, summary = self.rows.read(cell), self._summary()
        self.parent.update(summary)
        values = "  ".join(f"{name} {value:.4f}" for name, value in row.metrics.items())
        reason = " ".join((state.error or state.note or "").split())
        left = summary.seconds_left()
        rest = f"  {left / 60:.0f} min left" if left is not None and left > 90 else ""
        log.info("cell %d %s  %s%s", cell.number, state.status, values if state.status == "finished" else reason, rest)
        if self.launcher.fail_fast and state.status != "finished":
            log.warning("launcher.fail_fast=true: no further cell starts, and running cells are stopped")
            self.ending = True

    def _summary(self) -> Summary:
        """The state of the sweep; the rows of running cells may be `RUNNING_SECONDS` old, those of others are new."""
        if time.monotonic() - self._running_read > RUNNING_SECONDS:
            for cell in (*self.started.values(), *self.orphaned.values()):
                self.rows.read(cell)
            self._running_read = time.monotonic()
        return self.rows.summary()

    def _check_orphaned(self) -> None:
        for number, cell in list(self.orphaned.items()):
            status = cell.state().status
            if status != "running":
                del self.orphaned[number]
                self.rows.read(cell)
                self.queued += [cell] if status == "queued" else []
                if self.adaptive is not None and status != "queued":
                    self.adaptive.tell(cell)

    def _end_cells(self) -> None:
        self.launcher.stop()
        deadline = time.monotonic() + ENDING_SECONDS
        while self.started and time.monotonic() < deadline:
            for ended in self.launcher.wait(POLL_SECONDS):
                del self.started[ended.cell.number]
                if ended.cell.state().status == "queued":
                    ended.cell.write(status="queued", note=STOPPED)


def cancel_waiting(sweep: Sweep, none_runs: bool = False) -> int:
    """Marks every queued cell as cancelled, and returns their number.

    `none_runs` says that no cell has a process any more, so that running ones are cancelled as well.
    """
    unfinished = {"queued", "running"} if none_runs else {"queued"}
    waiting = [cell for cell in sweep.cells() if cell.state().status in unfinished]
    for cell in waiting:
        cell.write(status="cancelled", note=None)
    return len(waiting)
