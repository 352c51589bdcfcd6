import os
import time

import pytest

from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import clear_finished, now_text
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.sync import sync_runs
from lesion_exp.tracking.uploader import SESSION, SESSION_TAG


def points(store: Store, run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in store.client.get_metric_history(run_id, name))


def start(store: Store) -> TrackedRun:
    return TrackedRun.start(store, "tests", "a run", system_metrics_seconds=0)


def test_a_repeated_epoch_keeps_the_value_of_the_first_time(store: Store) -> None:
    run = start(store)
    for step in (5, 10):
        run.log_metrics({"time/epoch_seconds": step / 10, "val/loss": step}, step)
    run.finish("KILLED")
    again = TrackedRun.resume(store, run.run_id, system_metrics_seconds=0)
    for step in (10, 15):
        again.log_metrics({"time/epoch_seconds": 7.0, "val/loss": step}, step)
    again.log_metrics({"val/loss": 99.0}, 15)
    again.finish("FINISHED")
    assert points(store, run.run_id, "time/epoch_seconds") == [(5, 0.5), (10, 1.0), (15, 7.0)]
    assert points(store, run.run_id, "val/loss") == [(5, 5), (10, 10), (15, 15)]


def test_an_evaluation_that_is_repeated_adds_only_what_differs(store: Store) -> None:
    with start(store) as run:
        run.log_metrics({"test/accuracy": 0.5}, 8)
    written = RunWriter(store, run.run_id, run.artifact_uri)
    values = {"test/accuracy": 0.5, "isic/score": 0.25, "isic/none": float("nan")}
    for _ in range(3):
        written.log_late_metrics(values)
        time.sleep(0.002)
    assert points(store, run.run_id, "test/accuracy") == [(8, 0.5)]
    assert points(store, run.run_id, "isic/score") == [(8, 0.25)]
    assert len(points(store, run.run_id, "isic/none")) == 1
    written.log_late_metrics({**values, "isic/score": 0.75})
    assert points(store, run.run_id, "isic/score") == [(8, 0.25), (9, 0.75)]
    assert find_run(store, run.run_id).metrics["isic/score"] == 0.75


def left_behind(store: Store, run_id: str) -> None:
    """What a process leaves whose store was away when it was killed."""
    spool = Spool(store.live / run_id / SPOOL_DIR)
    spool.describe({"run_id": run_id, "run_name": "a run", "store": store.uri, SESSION: ""})
    for step in (1, 2, 3):
        spool.add("metrics", time=1000 + step, step=step, values={"val/loss": -1.0})
    spool.add("tags", values={"error": "it was killed"})
    spool.add("status", status="FAILED", time=2000)
    spool.close()


def test_what_waits_in_another_project_adds_no_second_value(store: Store) -> None:
    run_id = store.client.create_run(store.experiment_id("tests"), run_name="a run").info.run_id
    for step in (1, 2):
        store.client.log_metric(run_id, "val/loss", step / 10, step=step)
    store.client.set_tag(run_id, SESSION_TAG, "resumed elsewhere")
    store.client.set_terminated(run_id, "FINISHED")
    left_behind(store, run_id)
    (outcome,) = sync_runs(store.live, lambda _: store)
    found = find_run(store, run_id)
    assert outcome.state == "sent"
    assert outcome.counts == {"metrics": 1}
    assert points(store, run_id, "val/loss") == [(1, 0.1), (2, 0.2), (3, -1.0)]
    assert found.status == "FINISHED"
    assert "error" not in found.tags


def test_what_a_run_left_that_nobody_resumed_is_all_sent(store: Store) -> None:
    run_id = store.client.create_run(store.experiment_id("tests"), run_name="a run").info.run_id
    left_behind(store, run_id)
    sync_runs(store.live, lambda _: store)
    found = find_run(store, run_id)
    assert len(points(store, run_id, "val/loss")) == 3
    assert (found.status, found.tags["error"]) == ("FAILED", "it was killed")


@pytest.mark.parametrize(
    ("status", "left", "stays"),
    [
        ("FINISHED", "checkpoint", False),
        ("KILLED", "checkpoint", True),
        ("FINISHED", "spool", True),
        ("FINISHED", "lock of a living process", True),
        ("of another store", "checkpoint", True),
    ],
)
def test_live_folders_of_finished_runs_are_removed(store: Store, status: str, left: str, stays: bool) -> None:
    run_id = store.client.create_run(store.experiment_id("tests")).info.run_id
    if status == "of another store":
        run_id = "0" * 32
    else:
        store.client.set_terminated(run_id, status)
    folder = store.live / run_id
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(bytes(1000))
    child = 0
    if left == "spool":
        (folder / SPOOL_DIR).mkdir()
    elif left != "checkpoint":
        ready, done = os.pipe()
        if (child := os.fork()) == 0:
            from lesion_exp.data.lock import hold

            os.write(done, b"1" if hold(folder / LOCK_FILE) else b"0")
            time.sleep(60)
            os._exit(0)
        assert os.read(ready, 1) == b"1"
    try:
        assert clear_finished(store) == ([] if stays else [run_id])
    finally:
        if child:
            os.kill(child, 9)
            os.waitpid(child, 0)
    assert folder.exists() == stays


def test_a_driver_that_holds_the_lock_need_not_wait_for_the_heartbeat(store: Store) -> None:
    tags = {"mlflow.heartbeat": now_text()}
    run_id = store.client.create_run(store.experiment_id("tests"), tags=tags).info.run_id
    run = TrackedRun.resume(store, run_id, is_alone=True, system_metrics_seconds=0)
    run.finish("FINISHED")
    assert find_run(store, run_id).status == "FINISHED"
