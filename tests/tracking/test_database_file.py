import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.tracking import database_file, embedded
from lesion_exp.tracking.database_file import prepare_database
from lesion_exp.tracking.store import open_store
from tests.dying import count_operations, die_at

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
LEFTOVERS = {"-wal", "-shm", "-journal"}


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as whole, closing(sqlite3.connect(target)) as copy:
        whole.backup(copy)


@pytest.fixture
def quick_tables(empty_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow takes seconds to make its tables; these are copied."""

    def copy(database: Path, artifacts: Path) -> None:
        copy_database(empty_root / "mlruns/mlflow.db", database)

    monkeypatch.setattr(database_file, "_make_tables", copy)


@pytest.fixture
def quick_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that changes nothing but the revision; `test_store` runs a real one."""

    def upgrade(connection: sqlite3.Connection, copy: Path) -> bool:
        with closing(sqlite3.connect(copy)) as target:
            connection.backup(target)
            target.execute("UPDATE alembic_version SET version_num = ?", (database_file._newest_revision(),))
            target.commit()
        return True

    monkeypatch.setattr(database_file, "_upgrade", upgrade)


@pytest.fixture(scope="session")
def old_store(empty_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database with a run and the schema of an MLflow before this one, and its revision."""
    from alembic import command
    from mlflow import MlflowClient
    from mlflow.store.db import utils

    database = tmp_path_factory.mktemp("old") / "mlflow.db"
    copy_database(empty_root / "mlruns/mlflow.db", database)
    client = MlflowClient(f"sqlite:///{database}")
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "val/loss", 0.5)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{database}")
    config = utils._get_alembic_config(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    revision = utils._get_schema_version(engine)
    engine.dispose()
    database_file._close_idle_connections(database)
    return database, revision


def revision_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def values_of(database: Path) -> list[float]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in connection.execute("SELECT value FROM metrics")]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not any(path.name.endswith(end) for end in LEFTOVERS)}


@pytest.mark.usefixtures("quick_tables")
def test_a_store_whose_creation_was_stopped_anywhere_is_made_by_the_next(tmp_path: Path) -> None:
    def create(folder: Path) -> Callable[[], None]:
        return lambda: prepare_database(folder / "mlflow.db", folder / "artifacts")

    (whole := tmp_path / "whole").mkdir()
    operations = count_operations(create(whole), whole)
    assert operations >= 5
    for number in range(1, operations + 1):
        (folder := tmp_path / f"{number}").mkdir()
        assert die_at(number, create(folder), folder, SIGNALS[number % 2]) != 0, number
        create(folder)()
        assert revision_of(folder / "mlflow.db") == revision_of(whole / "mlflow.db"), number
        assert names_in(folder) == {"mlflow.db"}, number


@pytest.mark.usefixtures("quick_upgrade")
def test_a_migration_stopped_anywhere_loses_nothing(tmp_path: Path, old_store: tuple[Path, str]) -> None:
    source, revision = old_store

    def migrate(folder: Path) -> Callable[[], None]:
        return lambda: prepare_database(folder / "mlflow.db", folder / "artifacts")

    def copy(name: str) -> Path:
        (folder := tmp_path / name).mkdir()
        shutil.copyfile(source, folder / "mlflow.db")
        return folder

    whole = copy("whole")
    operations = count_operations(migrate(whole), whole)
    assert operations >= 5
    for number in range(1, operations + 1):
        folder = copy(f"{number}")
        assert die_at(number, migrate(folder), folder, SIGNALS[number % 2]) != 0, number
        assert values_of(folder / "mlflow.db") == [0.5], number
        migrate(folder)()
        assert values_of(folder / "mlflow.db") == [0.5], number
        assert values_of(folder / f"mlflow.db.{revision}") == [0.5], number
        assert revision_of(folder / f"mlflow.db.{revision}") == revision, number
        assert names_in(folder) == {"mlflow.db", f"mlflow.db.{revision}"}, number
        assert revision_of(folder / "mlflow.db") == revision_of(whole / "mlflow.db"), number


def test_what_the_write_ahead_log_holds_is_migrated_too(tmp_path: Path, old_store: tuple[Path, str]) -> None:
    source, revision = old_store
    database = tmp_path / "mlflow.db"
    shutil.copyfile(source, tmp_path / "filling.db")
    with closing(sqlite3.connect(tmp_path / "filling.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("UPDATE metrics SET value = 0.75")
        for ending in ("", "-wal", "-shm"):  # as a process leaves them that was killed
            shutil.copyfile(tmp_path / f"filling.db{ending}", f"{database}{ending}")
    assert Path(f"{database}-wal").stat().st_size > 0
    prepare_database(database, tmp_path / "artifacts")
    assert values_of(database) == [0.75]
    assert values_of(tmp_path / f"mlflow.db.{revision}") == [0.75]


def test_a_backup_is_never_written_over(tmp_path: Path, old_store: tuple[Path, str]) -> None:
    source, revision = old_store
    shutil.copyfile(source, tmp_path / "mlflow.db")
    (tmp_path / f"mlflow.db.{revision}").write_bytes(b"the only good copy")
    prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert (tmp_path / f"mlflow.db.{revision}").read_bytes() == b"the only good copy"
    assert values_of(tmp_path / f"mlflow.db.{revision}.2") == [0.5]


def test_a_file_system_without_links_gets_a_backup_too(
    tmp_path: Path, old_store: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    source, revision = old_store
    shutil.copyfile(source, tmp_path / "mlflow.db")
    prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert values_of(tmp_path / f"mlflow.db.{revision}") == [0.5]
    assert names_in(tmp_path) == {"mlflow.db", f"mlflow.db.{revision}"}


def test_a_store_in_use_is_not_migrated(
    tmp_path: Path, old_store: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_file, "BUSY_SECONDS", 0.2)
    source, revision = old_store
    shutil.copyfile(source, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("SELECT count(*) FROM runs").fetchone()
        with pytest.raises(ConfigError, match="no other process uses"):
            prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert revision_of(tmp_path / "mlflow.db") == revision
    prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert values_of(tmp_path / "mlflow.db") == [0.5]


@pytest.mark.usefixtures("quick_tables")
@pytest.mark.parametrize("with_revision", [False, True])
def test_a_store_that_an_earlier_version_half_made_is_made_anew_and_kept(
    tmp_path: Path, with_revision: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    database = tmp_path / "mlflow.db"
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    if with_revision:  # the first migration had begun to change tables when the process was killed
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
            connection.execute("DROP TABLE metrics")
    prepare_database(database, tmp_path / "artifacts")
    assert revision_of(database) == database_file._newest_revision()
    assert names_in(tmp_path) == {"mlflow.db", "mlflow.db.unfinished"}
    assert "incomplete and contained no run" in caplog.text


def test_a_migration_that_an_earlier_version_left_torn_names_the_copy_to_put_back(
    tmp_path: Path, old_store: tuple[Path, str]
) -> None:
    source, revision = old_store
    database = tmp_path / "mlflow.db"
    shutil.copyfile(source, database)
    shutil.copyfile(source, tmp_path / f"mlflow.db.{revision}")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(ConfigError, match="migration that was cut off") as caught:
        prepare_database(database, tmp_path / "artifacts")
    remedy = str(caught.value).rsplit("with: ", 1)[1]
    subprocess.run(remedy, shell=True, check=True)
    prepare_database(database, tmp_path / "artifacts")
    assert values_of(database) == [0.5]


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / "own.db").read_bytes()
    with pytest.raises(ConfigError, match="it holds others: recipes"):
        open_store(f"sqlite:///{tmp_path}/own.db", tmp_path)
    assert (tmp_path / "own.db").read_bytes() == before
    assert names_in(tmp_path) == {"own.db", "own.db.lock"}


def test_a_side_file_without_its_database_is_not_taken_for_a_part_of_the_new_one(
    root: Path, empty_root: Path, quick_tables: None
) -> None:
    database = root / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("UPDATE experiments SET name = 'of the deleted store'")
        kept = Path(f"{database}-wal").read_bytes()
        database.unlink()
    Path(f"{database}-wal").write_bytes(kept)
    assert open_store(None, root).client.get_experiment("0").name == "Default"


def test_a_busy_store_is_called_busy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_file, "BUSY_SECONDS", 0.2)
    database = root / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=delete")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="it is busy: another process") as caught:
            open_store(None, root)
    assert "Move that file away" not in str(caught.value)
    open_store(None, root)


def test_a_store_whose_lock_is_held_is_called_busy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LONGEST_WAIT_SECONDS", 0.2)
    program = "import fcntl,sys,time; h=open(sys.argv[1],'a'); fcntl.flock(h, fcntl.LOCK_EX); print(1, flush=True); "
    holder = subprocess.Popen(
        [sys.executable, "-c", program + "time.sleep(60)", f"{root}/mlruns/mlflow.db.lock"], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="it is busy: another process has held"):
            open_store(None, root)
    finally:
        holder.kill()
        holder.wait()
    began = time.monotonic()
    open_store(None, root)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_cut_store_is_called_cut(root: Path, share: float) -> None:
    database = root / "mlruns/mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(database, int(share * database.stat().st_size))
    with pytest.raises(ConfigError, match=r"it was cut|disk image is malformed"):
        open_store(None, root)


def test_the_newest_revision_is_the_one_that_mlflow_migrates_to() -> None:
    from mlflow.store.db import utils

    assert database_file._newest_revision() == utils._get_latest_schema_revision()


def test_files_of_revisions_that_cannot_be_understood_are_left_to_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    known = database_file._newest_revision()
    monkeypatch.setattr(database_file, "_REVISIONS", "elsewhere")
    assert database_file._newest_revision.__wrapped__() == known
