"""Runs one cell: `python -m lesion_exp.sweeps.run_cell FOLDER`, or a child of the fork server."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lesion_exp.data.lock import hold, release
from lesion_exp.errors import UserError
from lesion_exp.next_command import key_and_value
from lesion_exp.process.distributed_environment import is_follower
from lesion_exp.process.messages import show_messages
from lesion_exp.process.peer_heartbeats import PeerLost
from lesion_exp.process.peers import leading
from lesion_exp.process.signals import end_on_sigterm, end_with_parent
from lesion_exp.sweeps.cell import CELL_TAG, PRUNED, STARTER, STOPPED, Cell
from lesion_exp.sweeps.choices import as_text, chosen
from lesion_exp.sweeps.ledger import Sweep, read_sweep
from lesion_exp.tracking.embedded import DEAD_AFTER_SECONDS
from lesion_exp.tracking.find import find_tagged
from lesion_exp.tracking.heartbeat import HEARTBEAT_SECONDS, mark_dead_runs
from lesion_exp.tracking.run_description import CHOICE_TAG
from lesion_exp.tracking.stored_run import PARENT_TAG, Run
from lesion_exp.training.checkpoint import resume_context
from lesion_exp.training.run import dismiss, follow, train
from lesion_exp.training.run_context import JobResult, RunContext

log = logging.getLogger(__name__)

DONE, FAILED, MISTAKE, TERMINATED = 0, 1, 2, 143


def run_cell(cell: Cell) -> int:
    """Runs `cell`, unless it is done or another process runs it; returns the exit code.

    The outcome is written to the ledger. A run that an earlier attempt started is resumed, even if that attempt was
    killed before it could record the id of the run.
    """
    if is_follower():
        return _follow()
    if not hold(cell.lock):
        log.warning("cell %d is being run by another process", cell.number)
        _dismiss_followers()
        return DONE
    try:
        before = cell.recorded()
        if before.status in {"finished", "cancelled"}:
            _dismiss_followers()
            return DONE
        cell.write(
            status="running",
            attempts=before.attempts + 1,
            host=os.uname().nodename,
            pid=os.getpid(),
            started=time.time(),
            ended=None,
            error=None,
            note=None,
        )
        with _heartbeat(cell):
            return _attempt(cell, is_first=before.attempts == 0)
    finally:
        release(cell.lock)


def _follow() -> int:
    """Takes part in a cell that the first process of several runs, which alone writes to the ledger."""
    try:
        follow()
    except UserError as error:
        log.error("lesion-exp: %s", error)
        return MISTAKE
    except (KeyboardInterrupt, SystemExit):
        return TERMINATED
    except Exception:
        log.exception("a process of the cell failed")
        return FAILED
    return DONE


def _dismiss_followers() -> None:
    """Ends the other processes of the cell, which has nothing to train. They end by themselves if they cannot be told.

    The outcome of the cell does not depend on it: a failure is only logged.
    """
    try:
        dismiss()
    except (Exception, PeerLost):
        log.exception("the other processes of the cell could not be told that there is nothing to train")


def _attempt(cell: Cell, is_first: bool) -> int:
    try:
        with leading():
            result, note = _train(cell, is_first)
    except UserError as error:
        log.error("lesion-exp: %s", error)
        cell.write(status="failed", ended=time.time(), error=str(error))
        return MISTAKE
    except (KeyboardInterrupt, SystemExit):
        cell.write(status="queued", ended=time.time(), note=STOPPED)
        return TERMINATED
    except Exception as error:
        log.exception("cell %d failed", cell.number)
        cell.write(status="failed", ended=time.time(), error=f"{type(error).__name__}: {error}")
        return FAILED
    cell.write(status="finished", ended=time.time(), run_id=result.run_id, metrics=result.metrics, note=note)
    return DONE


def _train(cell: Cell, is_first: bool) -> tuple[JobResult, str | None]:
    """Starts or resumes the cell's run, or reads the results of a finished one; with a note for the ledger.

    The store is not searched for a run of the cell in the `is_first` attempt, which is recorded before it begins.
    """
    job, sweep = cell.job(), read_sweep(cell.folder.parent.parent)
    context = cell_context(cell, sweep)
    known = None if is_first else _wait_for_death(find_tagged(job.project.store, _identity(cell, sweep)))
    if known is None:
        return _noted(train(job, context))
    cell.write(run_id=known.run_id)
    if known.status == "FINISHED":
        _dismiss_followers()
        return _noted(JobResult(known.run_id, known.results(), pruned=known.tags.get("pruned") == "true"))
    return _noted(train(job, resume_context(known, context)))


def cell_context(cell: Cell, sweep: Sweep) -> RunContext:
    """Returns the context of a cell's run: its tags, its name in MLflow, and the folder of its reports."""
    overrides, _ = cell.facts()
    tags = _identity(cell, sweep)
    if sweep.facts.parent_run_id is not None:
        tags[PARENT_TAG] = sweep.facts.parent_run_id
    values = dict(map(key_and_value, overrides))
    choice = chosen(values)
    tags[CHOICE_TAG] = as_text(choice)
    name = " ".join(text.lstrip("+") for text in overrides)
    return RunContext(tags=tags, params=choice, name=name or None, pruning_dir=str(cell.folder))


def _identity(cell: Cell, sweep: Sweep) -> dict[str, str]:
    """The tags that identify the run of a cell."""
    return {"sweep_id": sweep.facts.sweep_id, CELL_TAG: f"{cell.number:04d}"}


def _noted(result: JobResult) -> tuple[JobResult, str | None]:
    return result, PRUNED if result.pruned else None


def _wait_for_death(run: Run | None) -> Run | None:
    """Waits until `run` is not marked RUNNING any more: this process holds the cell, so its earlier process is dead."""
    deadline = time.monotonic() + DEAD_AFTER_SECONDS + HEARTBEAT_SECONDS
    while run is not None and run.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(1.0)
        mark_dead_runs(run.store)
        run = find_tagged(run.store, {name: run.tags[name] for name in ("sweep_id", CELL_TAG)})
    return run


@contextmanager
def _heartbeat(cell: Cell) -> Iterator[None]:
    """Renews the heartbeat of the cell within the block, for machines that cannot see this process."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            cell.touch()

    thread = threading.Thread(target=touch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main() -> int:
    """Runs the cell in the folder of the command; the cell ends with its parent process, whose id follows."""
    show_messages(in_a_file=True)
    end_on_sigterm()
    if len(sys.argv) > 2:
        end_with_parent(os.getppid() if sys.argv[2] == STARTER else int(sys.argv[2]))
    return run_cell(Cell(Path(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
