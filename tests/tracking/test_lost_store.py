"""The database of a run is deleted, replaced or cut while the run lives; one that is only busy is waited for."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from lesion_exp.tracking import embedded
from lesion_exp.tracking.embedded import DatabaseWatch, StoreLostError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.spool import SPOOL_DIR, Spool
from lesion_exp.tracking.store import Store, open_store


def log_until_lost(run: TrackedRun) -> None:
    """Logs on as training does, until the run notices."""
    deadline = time.monotonic() + 60
    step = 1
    while time.monotonic() < deadline:
        run.log_metrics({"train/loss": 0.5}, step)
        step += 1
        time.sleep(0.02)


def harm(database: Path, how: str) -> None:
    if how == "deleted":
        database.unlink()
    elif how == "replaced":
        other = database.with_name("other.db")
        shutil.copyfile(database, other)
        other.replace(database)
    else:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        os.truncate(database, {"cut to nothing": 0, "cut": database.stat().st_size // 2}[how])


@pytest.mark.parametrize("how", ["deleted", "replaced", "cut", "cut to nothing"])
def test_a_run_whose_store_is_lost_ends_and_keeps_its_live_folder(store: Store, how: str) -> None:
    run = TrackedRun.start(store, "tests", "a run", flush_seconds=0.05, system_metrics_seconds=0)
    (run.live_dir / "last.ckpt").write_bytes(b"weights")
    run.log_metrics({"train/loss": 1.0}, 0)
    run.flush()
    assert store.database is not None
    harm(store.database, how)
    with pytest.raises(StoreLostError, match="expected the store of run") as caught, run:
        log_until_lost(run)
    assert f"resume run={run.run_id}" in str(caught.value)
    assert (run.live_dir / "last.ckpt").read_bytes() == b"weights"
    spool = Spool(run.live_dir / SPOOL_DIR)
    assert spool.waiting > 0
    spool.close()


def test_a_run_whose_store_is_lost_at_its_end_has_not_finished(store: Store) -> None:
    run = TrackedRun.start(store, "tests", "a run", flush_seconds=60, system_metrics_seconds=0)
    (run.live_dir / "last.ckpt").write_bytes(b"weights")
    assert store.database is not None
    store.database.unlink()
    with pytest.raises(StoreLostError):
        run.finish("FINISHED")
    assert (run.live_dir / "last.ckpt").exists()


def test_what_a_lost_store_had_not_got_is_there_once_it_is_put_back(store: Store, root: Path) -> None:
    run = TrackedRun.start(store, "tests", "a run", flush_seconds=0.05, system_metrics_seconds=0)
    assert store.database is not None
    run.flush()
    aside = store.database.with_name("aside")
    store.database.rename(aside)
    with pytest.raises(StoreLostError), run:
        log_until_lost(run)
    aside.rename(store.database)
    again = TrackedRun.resume(open_store(None, root), run.run_id, system_metrics_seconds=0)
    again.finish("FINISHED")
    found = find_run(store, run.run_id)
    steps = [point.step for point in store.client.get_metric_history(run.run_id, "train/loss")]
    assert found.status == "FINISHED"
    assert steps == list(range(1, len(steps) + 1))
    assert steps


def test_a_busy_store_is_not_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "BUSY_SECONDS", 0.1)
    run_id = store.client.create_run(store.experiment_id("tests")).info.run_id
    assert store.database is not None
    watch = DatabaseWatch(store.database, run_id)
    with closing(sqlite3.connect(store.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        watch.check()
        watch.examine()
    with pytest.raises(StoreLostError, match="no longer holds the run"):
        DatabaseWatch(store.database, "0" * 32).examine()
