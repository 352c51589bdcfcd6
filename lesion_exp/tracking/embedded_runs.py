"""Reads runs of an embedded store without MLflow, whose import takes seconds; `find` decides what a name means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.run_names import ACTIVE, read_only

_COLUMNS: Final = "run_uuid, runs.name, status, experiment_id, artifact_uri, start_time"


class StoredRow(NamedTuple):
    """A run as the database stores it."""

    run_id: str
    name: str
    status: str
    experiment_id: str
    artifact_uri: str
    started: float
    """Seconds since 1970."""
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def rows_with_id(database: Path, prefix: str) -> list[StoredRow] | None:
    """Returns the active runs, at most two, whose id begins with `prefix`; None if the database cannot be read now."""
    query = f"SELECT {_COLUMNS} FROM {ACTIVE} AND substr(run_uuid, 1, :length) = :prefix LIMIT 2"
    return _read(database, query, {"prefix": prefix, "length": len(prefix)})


def newest_row(database: Path, wanted: Callable[[Mapping[str, str]], bool]) -> StoredRow | None:
    """Returns the active run that started last among those whose tags are `wanted`.

    The result is None if there is none, or if the database cannot be read now.
    """
    query = f"SELECT {_COLUMNS} FROM {ACTIVE} ORDER BY start_time DESC, run_uuid"
    try:
        with closing(read_only(database)) as store:
            rows = (_row(store, found) for found in store.execute(query))
            return next((row for row in rows if wanted(row.tags)), None)
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


def _read(database: Path, query: str, given: Mapping[str, Any]) -> list[StoredRow] | None:
    try:
        with closing(read_only(database)) as store:
            return [_row(store, found) for found in store.execute(query, given).fetchall()]
    except sqlite3.Error:
        return None


def _row(store: sqlite3.Connection, found: tuple[Any, ...]) -> StoredRow:
    run_id, name, status, experiment_id, artifact_uri, started = found
    params = dict(store.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
    tags = dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
    points = store.execute("SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", (run_id,))
    metrics = {key: float("nan") if is_nan else float(value) for key, value, is_nan in points}
    name = name or tags.get("mlflow.runName", "")
    return StoredRow(run_id, name, status, str(experiment_id), artifact_uri, started / 1000, params, metrics, tags)
