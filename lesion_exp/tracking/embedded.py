"""The embedded store: an SQLite file with its artifacts beside it, which processes share and which can be moved."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlparse

from lesion_exp.data.lock import file_lock
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.tracking.database_file import BUSY_SECONDS, explained, is_busy, is_cut, prepare_database

log = logging.getLogger(__name__)

HEARTBEAT_TAG: Final = "mlflow.heartbeat"
"""Tag of a run with the time of its last heartbeat, seconds since 1970."""
DEAD_AFTER_SECONDS: Final = 60.0
"""A RUNNING run whose last heartbeat is older than this is considered dead."""

LONGEST_WAIT_SECONDS: Final = 600.0
"""How long to wait for the lock of a store; creating or migrating one takes seconds."""
_FEWEST_ANALYZED: Final = 100
"""Smallest number of runs for which statistics are gathered; with fewer, every order of work is fast."""
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
    """Holds the lock of a store, `<database>.lock`; other processes wait. A process that dies releases it.

    Raises:
        ConfigError: the folder cannot be written or has no file locks, or another process holds the lock for minutes.
    """
    path = database.with_name(database.name + ".lock")
    lock = file_lock(path, LONGEST_WAIT_SECONDS)
    try:
        lock.__enter__()
    except TimeoutError as error:
        raise ConfigError(
            f"expected to open the store {database}, but it is busy: another process has held {path.name} for "
            f"{LONGEST_WAIT_SECONDS / 60:.0f} min. Wait until it ends, or end it if it hangs: fuser {path} shows its "
            "number."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"expected a folder for the store of runs that can be written; {database.parent} cannot: {error.strerror}. "
            "Set paths.root or tracking.uri to a folder in which you can write."
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def open_embedded(database: Path, artifacts: Path, connect: Callable[[], Opened]) -> tuple[Opened, Path | None]:
    """Prepares the database, opens it by `connect`, and corrects its artifact paths if the store was moved.

    The caller holds `store_lock`. Returns the result of `connect`, and the folder in which the database still records
    its artifacts if that is not `artifacts`, else None.

    Raises:
        ConfigError: see `prepare_database`.
    """
    prepare_database(database, artifacts)
    connected = connect()
    with explained(database), closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection:
        with connection:
            moved_from = _follow_move(connection, artifacts)
        _analyze(connection)
    return connected, moved_from


def local_path(uri: str) -> Path | None:
    """Returns the folder of a local artifact URI (a plain path or `file:`); None for other schemes."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if parsed.scheme == "" else None


def _follow_move(connection: sqlite3.Connection, artifacts: Path) -> Path | None:
    """Rewrites the absolute artifact paths of a store that was moved; returns the former folder if that has to wait.

    The default experiment of a store that was created here has the location `<artifacts>/0`. Another folder there means
    that store and artifacts were moved or copied together, or are accessed through another mount. While a run is
    active, its process may use the former path, so nothing is rewritten.
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
    log.warning("The store was moved: its artifacts are now read from %s (before: %s).", artifacts, former)
    return None


def _analyze(connection: sqlite3.Connection) -> None:
    """Lets SQLite gather statistics of its tables if there are twice as many runs as when it did so before.

    Without statistics, SQLite compares each run with all values of a metric when MLflow sorts runs by that metric, as
    its page does: the time would grow with the square of the number of runs.
    """
    count = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    if count < _FEWEST_ANALYZED or count < 2 * _analyzed(connection):
        return
    connection.execute("PRAGMA busy_timeout = 1000")
    with suppress(sqlite3.OperationalError), connection:  # another process is writing; a later command tries again
        connection.execute("ANALYZE")


def _analyzed(connection: sqlite3.Connection) -> int:
    """The number of runs when statistics were gathered; 0 if they never were."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
        return 0
    found = connection.execute("SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = 'runs'").fetchone()
    return int(found[0] or 0)


class StoreLostError(RuntimeError):
    """The store of a run was deleted, replaced or damaged, so that nothing more can be recorded."""


class DatabaseWatch:
    """Detects that the SQLite file of a run's store was deleted, replaced or cut while the run is active.

    SQLite reports no error then and writes to a file that has no name any more. Only SQLite opens the file, since it
    would lose its locks otherwise.
    """

    def __init__(self, database: Path, run_id: str) -> None:
        self._database = database
        self._run_id = run_id
        self._at_start = database.stat()
        self._size = self._at_start.st_size

    def check(self) -> None:
        """Checks that the file is the same and has not been cut; it is cheap and called before each upload.

        Raises:
            StoreLostError: the file is another one, or was cut.
        """
        try:
            found = self._database.stat()
        except FileNotFoundError:
            raise self._lost("was deleted or moved") from None
        if not os.path.samestat(found, self._at_start):
            raise self._lost("was replaced by another file")
        if found.st_size < self._size:
            self.examine()
        self._size = found.st_size

    def examine(self) -> None:
        """Checks that the file still is a database with the run; called when an upload failed.

        Raises:
            StoreLostError: the file is no such database. A file that is only busy raises nothing.
        """
        try:
            with closing(sqlite3.connect(self._database, timeout=BUSY_SECONDS)) as connection:
                if is_cut(self._database, connection):
                    raise self._lost("was cut: its end is missing")
                found = connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (self._run_id,)).fetchone()
        except sqlite3.OperationalError as error:
            if is_busy(error) or "no such table" not in str(error):
                return
            raise self._lost(f"no longer holds MLflow's tables ({error})") from error
        except sqlite3.DatabaseError as error:
            raise self._lost(f"is damaged ({error})") from error
        if found is None:
            raise self._lost("no longer holds the run")

    def _lost(self, what: str) -> StoreLostError:
        return StoreLostError(
            f"expected the store of run {self._run_id} to stay while it runs, but {self._database} {what}. The run has "
            "ended; its checkpoints and all data that were not uploaded are kept in its live folder. Put the store "
            f"back, then continue it with: {next_command('resume', f'run={self._run_id}')}"
        )
