"""Heartbeats of runs: finds and marks runs whose process has died, and removes the live folders of finished runs."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from lesion_exp.data.lock import hold, is_held, release
from lesion_exp.next_command import next_command
from lesion_exp.tracking.embedded import DEAD_AFTER_SECONDS, HEARTBEAT_TAG
from lesion_exp.tracking.embedded_runs import may_have_running
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool, SpoolHeld, read_header
from lesion_exp.tracking.uploader import SESSION, SESSION_TAG, upload_remaining

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""An active run renews its heartbeat this often."""
LOG_FILE: Final = "log.txt"
_IDS_IN_A_SEARCH: Final = 100
_RUN_ID: Final = re.compile("[0-9a-f]{32}")


def now_text() -> str:
    """Returns the time as the heartbeat tag stores it, seconds since 1970."""
    return f"{time.time():.0f}"


def is_dead(store: Store, run: MlflowRun) -> bool:
    """Returns whether a run is marked RUNNING although its process is gone; False for runs without a heartbeat.

    The lock of the process decides if it can be tested on this machine, else the age of the heartbeat.
    """
    beat = run.data.tags.get(HEARTBEAT_TAG)
    if run.info.status != "RUNNING" or beat is None:
        return False
    folder = store.live / run.info.run_id
    held = is_held(folder / LOCK_FILE)
    if held is not None:
        return not held
    header = read_header(folder / SPOOL_DIR)  # of the process that last worked on the run, if it ran on this machine
    was_here = header is not None and header.get(SESSION) == run.data.tags.get(SESSION_TAG, "")
    return was_here or time.time() - float(beat) > DEAD_AFTER_SECONDS


def mark_dead_runs(store: Store) -> list[str]:
    """Marks every RUNNING run whose process is gone as KILLED, and returns the ids of these runs.

    Such a process was ended by `kill -9`, or with its machine. The end of the run is its last heartbeat. Its log, and
    what was logged but not uploaded, are added to the run if they are on this machine. A run whose process is alive on
    this machine is not dead, whatever its heartbeat says: its store was unavailable.
    """
    if store.database is not None and not may_have_running(store.database):
        return []
    experiments = store.experiment_ids()
    dead: list[str] = []
    token = None
    while experiments:
        page = store.client.search_runs(experiments, "attributes.status = 'RUNNING'", page_token=token)
        dead += [run.info.run_id for run in page if is_dead(store, run) and _mark_killed(store, run)]
        token = page.token
        if not token:
            break
    return dead


def clear_finished(store: Store) -> list[str]:
    """Removes the live folders of finished runs whose process was killed before it removed them; returns their ids.

    Their checkpoints are among their artifacts by then. A folder is kept if a process holds it, if it contains data to
    be uploaded, or if its run is in another store or can be resumed.
    """
    waiting = {
        folder.name: folder
        for folder in sorted(store.live.glob("[0-9a-f]*"))
        if _RUN_ID.fullmatch(folder.name) and not (folder / SPOOL_DIR).exists()
    }
    cleared = []
    for run_id in sorted(_finished(store, list(waiting))):
        folder = waiting[run_id]
        if hold(folder / LOCK_FILE):
            shutil.rmtree(folder, ignore_errors=True)
            release(folder / LOCK_FILE)
            cleared.append(run_id)
    return cleared


def _finished(store: Store, run_ids: Sequence[str]) -> Iterator[str]:
    """Those of `run_ids` whose run has finished; a search asks for many, since each may be a request to a server."""
    for begin in range(0, len(run_ids), _IDS_IN_A_SEARCH):
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids[begin : begin + _IDS_IN_A_SEARCH])
        condition = f"attributes.status = 'FINISHED' AND attributes.run_id IN ({listed})"
        yield from [run.run_id for run in runs_where(store, condition)]


def _mark_killed(store: Store, run: MlflowRun) -> bool:
    run_id = run.info.run_id
    live_dir = store.live / run_id
    if (live_dir / SPOOL_DIR).exists():
        try:
            spool = Spool(live_dir / SPOOL_DIR)
        except SpoolHeld:
            return False
        if _ended_in_order(store, run, spool):
            return False
    if (log_file := live_dir / LOG_FILE).exists():
        store.put_artifact(run_id, run.info.artifact_uri, log_file, LOG_FILE)
    beat = float(run.data.tags[HEARTBEAT_TAG])
    store.client.set_terminated(run_id, "KILLED", end_time=int(beat * 1000))
    log.warning("Run %s has had no heartbeat since %s and is marked KILLED.", run_id, time.ctime(beat))
    return True


def _ended_in_order(store: Store, run: MlflowRun, spool: Spool) -> bool:
    """Uploads what the run left in its spool; returns whether it had ended in order while its store was unavailable."""
    try:
        return "status" in upload_remaining(store, run, spool)
    except Exception as error:
        log.warning(
            "Data of run %s that were not uploaded stay in %s (%s): %s",
            run.info.run_id,
            spool.folder,
            next_command("sync"),
            error,
        )
        return False
    finally:
        spool.close()
