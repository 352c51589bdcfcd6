"""The embedded store: one SQLite file with its artifacts beside it, made once, shared by processes, movable."""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlparse

from lesion_exp.errors import ConfigError

_log = logging.getLogger(__name__)

HEARTBEAT_TAG: Final = "mlflow.heartbeat"
"""Tag of a living run: seconds since 1970 at its last sign of life."""
DEAD_AFTER_SECONDS: Final = 60.0
"""A RUNNING run whose heartbeat is older than this has no process any more."""

_DEFAULT_EXPERIMENT: Final = "0"
_PATH_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
Opened = TypeVar("Opened")


@contextmanager
def store_lock(database: Path) -> Iterator[None]:
    """Holds the lock of a store, `<database>.lock`; other processes wait, the lock of a dead one is free."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        handle = database.with_name(database.name + ".lock").open("a")
    except OSError as error:
        raise ConfigError(
            f"expected a folder for the store of runs that can be written; {database.parent} cannot: {error.strerror}. "
            "Set paths.root or tracking.uri to a place of yours."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def open_embedded(database: Path, artifacts: Path, connect: Callable[[], Opened]) -> tuple[Opened, Path | None]:
    """What `connect` gives on a database that exists, has the current schema and knows where its artifacts lie.

    The second value is the folder under which the database still looks for its artifacts, or None where that is
    `artifacts`. Call it under `store_lock`: MLflow's own creation of tables breaks when processes race.
    `connect` opens the database with MLflow, which makes the tables of an empty one.

    Raises:
        ConfigError: the file is no SQLite database, or a newer MLflow wrote it.
    """
    try:
        fresh = _prepare_file(database)
        if not fresh:
            _migrate(database)
        connected = connect()
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            if fresh:
                _set_default_location(connection, artifacts)
            return connected, _follow_move(connection, artifacts)
    except sqlite3.Error as error:
        raise ConfigError(
            f"expected an SQLite database with MLflow's tables at {database}; SQLite says: {error}. "
            "Move that file away, or name another store with tracking.uri=sqlite:////folder/mlflow.db."
        ) from error


def local_path(uri: str) -> Path | None:
    """The folder a local artifact URI names (a plain path or file:), None for any other scheme."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if parsed.scheme == "" else None


def _prepare_file(database: Path) -> bool:
    """Switches to write-ahead logging, so that readers and one writer do not wait for each other; True if empty."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        mode = connection.execute("PRAGMA journal_mode=wal").fetchone()[0]
        if mode != "wal":
            _log.warning(
                "SQLite cannot write ahead on the file system of %s (mode %s): many runs at once will be slow. "
                "Put the store on a local disk or use an MLflow server.",
                database,
                mode,
            )
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
        return int(tables) == 0


def _migrate(database: Path) -> None:
    """Brings the tables of an older MLflow up to date; the state before is kept as `<database>.<revision>`."""
    import mlflow.store.db.utils

    utils: Any = mlflow.store.db.utils  # untyped; what `mlflow db upgrade` calls
    with closing(sqlite3.connect(database)) as source:
        revision = source.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        if revision == utils._get_latest_schema_revision():
            return
        kept = database.with_name(f"{database.name}.{revision}")
        with closing(sqlite3.connect(kept)) as copy:
            source.backup(copy)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{database}")
    try:
        utils._upgrade_db(engine)
    except Exception as error:
        kept.unlink()
        raise ConfigError(
            f"expected a store written by this MLflow or an older one; {database} has schema {revision}, which it "
            "cannot read. Install the MLflow that wrote it, or name another store with tracking.uri."
        ) from error
    finally:
        engine.dispose()
    _log.warning("Migrated %s to this MLflow's schema; the state before is kept as %s.", database, kept.name)


def _set_default_location(connection: sqlite3.Connection, artifacts: Path) -> None:
    """MLflow puts its default experiment under the current folder; here its location marks where all artifacts lie."""
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (str(artifacts / _DEFAULT_EXPERIMENT), _DEFAULT_EXPERIMENT),
    )


def _follow_move(connection: sqlite3.Connection, artifacts: Path) -> Path | None:
    """Rewrites the absolute paths of a store that was moved; the former folder where that has to wait.

    MLflow stores artifact locations as absolute paths. The default experiment of a store made here lies at
    `<artifacts>/0`, so a different folder there means that store and artifacts were moved or copied together, or are
    seen through another mount. While a run is alive, its process may use the former path: then nothing is rewritten.
    """
    row = connection.execute(
        "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (_DEFAULT_EXPERIMENT,)
    ).fetchone()
    marker = local_path(row[0]) if row else None
    made_here = marker is not None and marker.parts[-2:] == (artifacts.name, _DEFAULT_EXPERIMENT)
    if marker is None or not made_here or marker.parent == artifacts:
        return None
    former = marker.parent
    if former.exists() and not artifacts.exists():
        return None
    alive = connection.execute(
        "SELECT count(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? "
        "WHERE runs.status = 'RUNNING' AND CAST(tags.value AS REAL) > ?",
        (HEARTBEAT_TAG, time.time() - DEAD_AFTER_SECONDS),
    ).fetchone()[0]
    if alive:
        return former
    for table, column in _PATH_COLUMNS:
        for scheme in ("", "file://"):
            old = f"{scheme}{former}/"
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (f"{scheme}{artifacts}/", len(old) + 1, len(old), old),
            )
    _log.warning("The store was moved: its artifacts are now read from %s (before: %s).", artifacts, former)
    return None
