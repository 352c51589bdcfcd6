"""Signs of life of a run, and the runs that have given none."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from lesion_exp.tracking.embedded import DEAD_AFTER_SECONDS, HEARTBEAT_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.tracking.store import Store

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""A living run renews its heartbeat this often."""
LOG_FILE: Final = "log.txt"


def now_text() -> str:
    """Seconds since 1970, as the heartbeat tag holds them."""
    return f"{time.time():.0f}"


def is_dead(run: MlflowRun) -> bool:
    """Whether a run claims to be RUNNING though its heartbeat is too old; runs without heartbeat are not ours."""
    beat = run.data.tags.get(HEARTBEAT_TAG)
    return run.info.status == "RUNNING" and beat is not None and time.time() - float(beat) > DEAD_AFTER_SECONDS


def mark_dead_runs(store: Store) -> list[str]:
    """Marks every RUNNING run whose heartbeat is older than 60 s as KILLED; their ids.

    Such a run ended without a word: `kill -9`, a machine that went down. It ends at its last heartbeat, and its log is
    saved with it where this machine has it.
    """
    experiments = store.experiment_ids()
    dead: list[str] = []
    token = None
    while experiments:
        page = store.client.search_runs(experiments, "attributes.status = 'RUNNING'", page_token=token)
        for run in filter(is_dead, page):
            _mark_killed(store, run)
            dead.append(run.info.run_id)
        token = page.token
        if not token:
            break
    return dead


def _mark_killed(store: Store, run: MlflowRun) -> None:
    run_id = run.info.run_id
    beat = float(run.data.tags[HEARTBEAT_TAG])
    if (log := store.live / run_id / LOG_FILE).exists():
        store.put_artifact(run_id, run.info.artifact_uri, log, LOG_FILE)
    store.client.set_terminated(run_id, "KILLED", end_time=int(beat * 1000))
    _log.warning("Run %s has shown no sign of life since %s: marked KILLED.", run_id, time.ctime(beat))
