"""Creates and migrates the SQLite file of an embedded store, as a copy that replaces the file once it is complete."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.byte_size import file_size
from lesion_exp.errors import ConfigError, first_cases

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = logging.getLogger(__name__)

BUSY_SECONDS: Final = 30.0
"""How long SQLite waits for other processes that write."""
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NOT_WRITABLE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_REVISIONS: Final = "store/db_migrations/versions"
"""The folder of MLflow with a file for each revision of its schema."""
_REVISION: Final = re.compile(r"^revision = \"(\w+)\"$", re.MULTILINE)
_BUILT_ON: Final = re.compile(r"^down_revision = \"(\w+)\"$", re.MULTILINE)


def prepare_database(database: Path, artifacts: Path) -> None:
    """Creates `database`, or migrates it to the schema of the installed MLflow, and enables write-ahead logging.

    The caller holds the lock of the store. If the process is killed at any time, `database` is either unchanged or
    complete, and the next call removes what is left beside it. Before a migration the file is saved as
    `<database>.<revision>`; an existing file of that name is never overwritten.

    Raises:
        ConfigError: the file is not a store, was written by a newer MLflow, is damaged, or is in use by a process that
            has to end first.
    """
    remove_database(_copy_of(database))
    with explained(database):
        if not database.exists() or database.stat().st_size == 0:
            _create(database, artifacts)
        else:
            with closing(_connect(database)) as connection:
                _check_length(database, connection)
                tables = _tables(connection)
                revision = _revision(connection, tables)
            if not tables:
                _create(database, artifacts)
            elif revision is None or revision != _newest_revision():
                _migrate(database, artifacts, revision)
        _write_ahead(database)


def remove_database(database: Path) -> None:
    """Removes an SQLite file and the files that SQLite keeps beside it, which are removed first."""
    for ending in (*_SIDE_FILES, ""):
        database.with_name(database.name + ending).unlink(missing_ok=True)


@contextmanager
def explained(database: Path) -> Iterator[None]:
    """Raises messages with a remedy in place of SQLite's errors about `database`.

    Raises:
        ConfigError: the file is busy, not writable, damaged or no database, or the disk is full.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigError(_explain(database, error)) from error


def is_busy(error: BaseException) -> bool:
    """Returns whether the error of SQLite only says that other processes are using the file."""
    return isinstance(error, sqlite3.Error) and _code(error) in _BUSY


def is_cut(database: Path, connection: sqlite3.Connection) -> bool:
    """Returns whether the file is shorter than SQLite wrote it; pages in the write-ahead log are taken into account."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if database.stat().st_size >= pages * page_size:
        return False
    _, in_log, in_file = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(in_log == in_file and database.stat().st_size < pages * page_size)


def _check_length(database: Path, connection: sqlite3.Connection) -> None:
    if is_cut(database, connection):
        raise ConfigError(
            f"expected a whole SQLite database at {database}; its end is missing. Put a copy of it back, "
            "or name another store with tracking.uri=sqlite:////folder/mlflow.db."
        )


def _create(database: Path, artifacts: Path) -> None:
    """Creates the tables and the default experiment, whose location records the folder of all artifacts."""
    copy = _copy_of(database)
    _make_tables(copy, artifacts)
    # otherwise SQLite would use files that it left beside a deleted or empty database for the new one
    remove_database(database)
    _put_in_place(copy, database)


def _make_tables(database: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{database}"
    SqlAlchemyStore(uri, str(artifacts)).engine.dispose()  # type: ignore[no-untyped-call]
    SqlAlchemyStore._engine_map.pop(uri, None)  # MLflow caches the engine, but the file is about to be renamed


def _migrate(database: Path, artifacts: Path, revision: str | None) -> None:
    """Migrates a copy, saves the file as `<database>.<revision>`, and replaces the file by the copy."""
    if revision is not None and not _is_known(revision):
        raise ConfigError(
            f"expected a store written by this MLflow or an older one; {database} has schema {revision}, which it "
            "cannot read. Install the MLflow that wrote it, or name another store with tracking.uri."
        )
    copy = _copy_of(database)
    with _alone(database) as connection:
        if revision is not None and _upgrade(connection, copy):
            kept = _keep(database, revision, connection)
            _put_in_place(copy, database)
            log.warning("Migrated %s to this MLflow's schema; the state before is kept as %s.", database, kept.name)
            return
        remove_database(copy)
        _check_nothing_is_lost(database, connection)
        _make_tables(copy, artifacts)
        kept = _keep(database, "unfinished", connection)
        _put_in_place(copy, database)
    log.warning(
        "%s was incomplete and contained no run: it was created again, and the old file is kept as %s.",
        database,
        kept.name,
    )


@contextmanager
def _alone(database: Path) -> Iterator[sqlite3.Connection]:
    """Yields a connection that excludes all other processes; the whole content of `database` is then in one file."""
    _close_idle_connections(database)
    with closing(_connect(database)) as connection:
        try:
            mode = connection.execute("PRAGMA journal_mode=delete").fetchone()[0]
            connection.execute("PRAGMA locking_mode=exclusive")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # in this mode the lock is kept after the commit, and the file can be copied
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            mode = "wal"
        if mode == "wal":
            raise ConfigError(
                f"expected that no other process uses {database}, which this MLflow has to migrate, but one does. Wait "
                "for the runs and commands that use it, end lesion-exp ui, and try again."
            )
        yield connection


def _close_idle_connections(database: Path) -> None:
    """Closes the connections that MLflow keeps open in this process; it opens new ones when it needs them."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for engines in (SqlAlchemyStore._engine_map, Registry._engine_map):
        if (engine := engines.get(f"sqlite:///{database}")) is not None:
            engine.dispose()


def _upgrade(connection: sqlite3.Connection, copy: Path) -> bool:
    """Copies what `connection` reads to the file `copy` and migrates it; returns whether MLflow could."""
    import mlflow.store.db.utils

    utils: Any = mlflow.store.db.utils  # untyped; what `mlflow db upgrade` calls
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{copy}")
    try:
        utils._upgrade_db(engine)
        complete: bool = utils._all_tables_exist(engine)
    except Exception as error:
        log.debug("the migration of %s failed: %s", copy, error)
        return False
    finally:
        engine.dispose()
    return complete


def _check_nothing_is_lost(database: Path, connection: sqlite3.Connection) -> None:
    """Checks that a file which cannot be migrated is an incomplete store without runs.

    Raises:
        ConfigError: the file is a database of another program, or a store with runs.
    """
    from mlflow.store.tracking.dbmodels.initial_models import Base

    tables = _tables(connection) - {"alembic_version"}
    if "experiments" not in tables and not tables <= set(Base.metadata.tables):
        raise ConfigError(
            f"expected MLflow's tables in {database}; it holds others: {', '.join(sorted(tables)[:5])}. Name another "
            "file with tracking.uri=sqlite:////folder/mlflow.db."
        )
    if "runs" in tables and connection.execute("SELECT count(*) FROM runs").fetchone()[0]:
        kept = sorted(path for path in database.parent.glob(f"{database.name}.*") if _is_database(path))
        listed = first_cases(kept)
        remedy = f"Put back one of the copies beside it:\n{listed}\nwith: mv {kept[-1]} {database}" if kept else ""
        raise ConfigError(
            f"expected a store that MLflow can migrate; the tables of {database} are those of a migration that was cut "
            f"off. {remedy or 'Name another store with tracking.uri=sqlite:////folder/mlflow.db.'}"
        )


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def _keep(database: Path, ending: str, connection: sqlite3.Connection) -> Path:
    """Saves the file under a second name and returns it; a name that a killed process gave it is used again."""
    number = 1
    while True:
        kept = database.with_name(f"{database.name}.{ending}{'' if number == 1 else f'.{number}'}")
        if kept.exists() and kept.samefile(database):
            return kept
        if not kept.exists():
            break
        number += 1
    try:
        os.link(database, kept)
    except OSError:  # a file system without links
        partial = database.with_name(f".{kept.name}.part")
        remove_database(partial)
        with closing(sqlite3.connect(partial)) as target:
            connection.backup(target)
        partial.replace(kept)
    return kept


def _put_in_place(copy: Path, database: Path) -> None:
    """Flushes a complete and closed file to the disk and renames it."""
    _to_disk(copy)
    copy.replace(database)
    _to_disk(database.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_ahead(database: Path) -> None:
    """Enables write-ahead logging, so that readers and a writer do not wait for each other."""
    with closing(_connect(database)) as connection:
        mode = connection.execute("PRAGMA journal_mode=wal").fetchone()[0]
    if mode != "wal":
        log.warning(
            "SQLite cannot write ahead on the file system of %s (mode %s): many runs at once will be slow. "
            "Put the store on a local disk or use an MLflow server.",
            database,
            mode,
        )


def _copy_of(database: Path) -> Path:
    return database.with_name(f".{database.name}.new")


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {str(row[0]) for row in rows}


def _revision(connection: sqlite3.Connection, tables: set[str]) -> str | None:
    """Returns the revision of the schema of the file; None if MLflow did not record it."""
    if "alembic_version" not in tables:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def has_current_tables(engine: Engine) -> bool:
    """Returns whether a database has all tables of the installed MLflow."""
    import mlflow.store.db.utils

    utils: Any = mlflow.store.db.utils
    return bool(utils._get_schema_version(engine) == _newest_revision())


@functools.cache
def _newest_revision() -> str:
    """Returns the newest revision of the schema that the installed MLflow knows: the one on which no other builds.

    It is read from the files of the revisions, since importing MLflow takes seconds.
    """
    spec = importlib.util.find_spec("mlflow")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    known, built_on = set(), set()
    for file in (path for folder in folders for path in (folder / _REVISIONS).glob("*.py")):
        text = file.read_text(encoding="utf-8")
        known.update(_REVISION.findall(text))
        built_on.update(_BUILT_ON.findall(text))
    if len(newest := known - built_on) == 1:
        return str(newest.pop())
    import mlflow.store.db.utils

    utils: Any = mlflow.store.db.utils
    return str(utils._get_latest_schema_revision())


def _is_known(revision: str) -> bool:
    """Returns whether the installed MLflow can migrate from a revision of the schema."""
    import mlflow.store.db.utils
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    utils: Any = mlflow.store.db.utils
    try:
        return ScriptDirectory.from_config(utils._get_alembic_config("")).get_revision(revision) is not None
    except CommandError:
        return False


def _code(error: sqlite3.Error) -> int:
    """Returns SQLite's primary result code; 0 for errors of Python's module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _explain(database: Path, error: sqlite3.Error) -> str:
    code = _code(error)
    if code in _BUSY:
        return (
            f"expected to use the store {database}, but it is busy: another process has kept it locked for "
            f"{BUSY_SECONDS:.0f} s. Nothing is wrong with it: wait until that process has ended, and try again."
        )
    if code in _NOT_WRITABLE:
        return (
            f"expected a store that can be written at {database}; SQLite says: {error}. Give yourself the right to "
            "write the file and its folder, or name another store with tracking.uri=sqlite:////folder/mlflow.db."
        )
    if code in _NO_ROOM:
        free = shutil.disk_usage(database.parent).free
        return (
            f"expected a disk that can be read and written for {database}; SQLite says: {error}; {file_size(free)} are "
            "free. Free some space or check the disk, and try again."
        )
    return (
        f"expected an SQLite database with MLflow's tables at {database}; SQLite says: {error}. "
        "Move that file away, or name another store with tracking.uri=sqlite:////folder/mlflow.db."
    )
