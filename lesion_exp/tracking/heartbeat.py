"""Signs of life of a run, and the runs that have given none."""

from __future__ import annotations

import logging
import re
import shutil
import time
from typing import TYPE_CHECKING, Final

from lesion_exp.data.lock import hold, is_held, release
from lesion_exp.tracking.embedded import DEAD_AFTER_SECONDS, HEARTBEAT_TAG
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool, SpoolHeld, read_header
from lesion_exp.tracking.uploader import SESSION, SESSION_TAG, upload_remaining

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""A living run renews its heartbeat this often."""
LOG_FILE: Final = "log.txt"
_RUN_ID: Final = re.compile("[0-9a-f]{32}")


def now_text() -> str:
    """Seconds since 1970, as the heartbeat tag holds them."""
    return f"{time.time():.0f}"


def is_dead(store: Store, run: MlflowRun) -> bool:
    """Whether a run claims to be RUNNING though its process is gone; runs without heartbeat are not ours.

    Where this machine sees the lock that its process held, that decides; else a heartbeat that is too old.
    """
    beat = run.data.tags.get(HEARTBEAT_TAG)
    if run.info.status != "RUNNING" or beat is None:
        return False
    folder = store.live / run.info.run_id
    held = is_held(folder / LOCK_FILE)
    if held is not None:
        return not held
    header = read_header(folder / SPOOL_DIR)  # what the process left that worked on the run last, if that was here
    was_here = header is not None and header.get(SESSION) == run.data.tags.get(SESSION_TAG, "")
    return was_here or time.time() - float(beat) > DEAD_AFTER_SECONDS


def mark_dead_runs(store: Store) -> list[str]:
    """Marks every RUNNING run whose process is gone as KILLED; their ids.

    Such a run ended without a word: `kill -9`, a machine that went down. It ends at its last heartbeat; its log, and
    what it had logged and not sent, are saved with it where this machine has them. A run whose process lives on this
    machine is not dead, its store was away.
    """
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
    """Removes the live folders of runs that have finished, but whose process was killed before it could; their ids.

    Their checkpoints lie among their artifacts by then. A folder that a process holds, that waits to be sent, or whose
    run is of another store, stays; so do the checkpoints of runs that can be gone on with.
    """
    cleared = []
    for folder in sorted(store.live.glob("[0-9a-f]*")):
        if not _RUN_ID.fullmatch(folder.name) or (folder / SPOOL_DIR).exists() or not _is_finished(store, folder.name):
            continue
        if hold(folder / LOCK_FILE):
            shutil.rmtree(folder, ignore_errors=True)
            release(folder / LOCK_FILE)
            cleared.append(folder.name)
    return cleared


def _is_finished(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(store.client.get_run(run_id).info.status == "FINISHED")
    except MlflowException:
        return False


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
    if (log := live_dir / LOG_FILE).exists():
        store.put_artifact(run_id, run.info.artifact_uri, log, LOG_FILE)
    beat = float(run.data.tags[HEARTBEAT_TAG])
    store.client.set_terminated(run_id, "KILLED", end_time=int(beat * 1000))
    log.warning("Run %s has shown no sign of life since %s: marked KILLED.", run_id, time.ctime(beat))
    return True


def _ended_in_order(store: Store, run: MlflowRun, spool: Spool) -> bool:
    """Whether the run had ended by itself, while its store was away; sends what it left, and closes the spool."""
    try:
        return "status" in upload_remaining(store, run, spool)
    except Exception as error:
        log.warning("What %s had not sent stays in %s (lesion-exp sync): %s", run.info.run_id, spool.folder, error)
        return False
    finally:
        spool.close()
