"""Reads runs of an embedded store without MLflow, whose import takes seconds; `find` decides what a name means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.run_names import ACTIVE, read_only
from lesion_exp.tracking.stored_run import Run

if TYPE_CHECKING:
    from lesion_exp.tracking.store import Store

_COLUMNS: Final = "run_uuid, runs.name, status, experiment_id, artifact_uri, start_time"


def runs_with_id(store: Store, prefix: str) -> list[Run] | None:
    """Returns the active runs, at most two, whose id begins with `prefix`.

    The result is None if the store is not embedded, or if its database cannot be read now.
    """
    query = f"SELECT {_COLUMNS} FROM {ACTIVE} AND substr(run_uuid, 1, :length) = :prefix LIMIT 2"
    if store.database is None:
        return None
    try:
        with closing(read_only(store.database)) as database:
            found = database.execute(query, {"prefix": prefix, "length": len(prefix)}).fetchall()
            return [_run(store, database, row) for row in found]
    except sqlite3.Error:
        return None


def newest_run(store: Store, wanted: Callable[[Mapping[str, str]], bool]) -> Run | None:
    """Returns the active run that started last among those whose tags are `wanted`.

    The result is None if there is none, if the store is not embedded, or if its database cannot be read now.
    """
    if store.database is None:
        return None
    query = f"SELECT {_COLUMNS} FROM {ACTIVE} ORDER BY start_time DESC, run_uuid"
    try:
        with closing(read_only(store.database)) as database:
            runs = (_run(store, database, row) for row in database.execute(query))
            return next((run for run in runs if wanted(run.tags)), None)
    except sqlite3.Error:
        return None


def may_have_running(database: Path) -> bool:
    """Returns whether a run with a heartbeat is marked RUNNING; True also if the database cannot be read now."""
    query = (
        "SELECT 1 FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? "
        "WHERE runs.status = 'RUNNING' LIMIT 1"
    )
    try:
        with closing(read_only(database)) as store:
            return store.execute(query, (HEARTBEAT_TAG,)).fetchone() is not None
    except sqlite3.Error:
        return True


def _run(store: Store, database: sqlite3.Connection, row: tuple[Any, ...]) -> Run:
    run_id, name, status, experiment_id, artifact_uri, started = row
    params = dict(database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
    tags = dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
    points = database.execute("SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", (run_id,))
    return Run(
        store=store,
        run_id=run_id,
        name=name or tags.get("mlflow.runName", ""),
        status=status,
        experiment_id=str(experiment_id),
        artifact_uri=artifact_uri,
        started=(started or 0) / 1000,  # other programs may leave it out
        params=params,
        metrics={key: float("nan") if is_nan else float(value) for key, value, is_nan in points},
        tags=tags,
    )
