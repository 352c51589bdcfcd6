import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.project import Project
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool
from lesion_exp.verbs.doctor import storage as examined
from lesion_exp.verbs.doctor.check_result import GIB
from lesion_exp.verbs.doctor.storage import data_set, disk, existing, file_system, storage, store, unsent, write_speed


@pytest.fixture
def project(tmp_path):
    folders = {name: tmp_path / name for name in ("data_cache", "jobs", "sweeps")}
    return Project(tmp_path, **folders, live=tmp_path / "mlruns" / "live")


def test_only_runs_that_train_are_counted(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for kind in ("train", "pretrain", "comparison", "sweep"):
        with TrackedRun.start(project.store, "study", kind, tags={"kind": kind}, system_metrics_seconds=0):
            pass
    [found] = store(project)
    assert ", 2 trainings, " in found.text


def test_disk_and_store_of_a_new_project_are_in_order(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    results = {result.name: result for result in storage(project)}
    assert set(results) == {"disk of the project", "store of runs"}, "the folders are on one disk"
    assert results["store of runs"].state == "ok"
    assert "none yet" in results["store of runs"].text
    assert not (project.root / "mlruns").exists(), "looking makes no store"
    assert not list(project.root.glob(".doctor_*")), "the trial file is gone"


def test_a_store_in_a_folder_that_mlflow_cannot_name_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "a#b 100%41"
    root.mkdir()
    [found] = store(Project(root, *[root / "x"] * 4))
    assert found.state == "problem"
    assert "without the characters ? # %" in f"{found.text} {found.remedy}"
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_a_store_that_another_process_writes_to_is_noted(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    [found] = store(project)
    assert found.state == "ok"
    database = project.store.database
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        [found] = store(project)
        other.execute("ROLLBACK")
    assert found.state == "note"
    assert "locked by another process" in found.text


def test_a_store_that_does_not_answer_is_a_problem_with_its_reason(tmp_path):
    project = Project(*[tmp_path] * 5, store_uri="http://127.0.0.1:9")
    [found] = store(project)
    assert found.state == "problem"
    assert "127.0.0.1:9" in found.text


def test_an_sqlite_store_on_a_network_disk_is_noted(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(examined, "file_system", lambda folder: "nfs4")
    [found] = store(project)
    assert found.state == "note"
    assert "tracking.uri=http" in found.remedy


@pytest.mark.parametrize(
    ("free", "speed", "state"),
    [(50 * GIB, 900, "ok"), (GIB, 900, "note"), (50 * GIB, 5, "note"), (1000, 900, "problem")],
)
def test_a_full_and_a_slow_disk_are_told(tmp_path, monkeypatch, free, speed, state):
    monkeypatch.setattr(examined.shutil, "disk_usage", lambda folder: type("usage", (), {"free": free}))
    monkeypatch.setattr(examined, "write_speed", lambda folder: speed)
    found = disk("project", tmp_path)
    assert found.state == state
    assert (found.remedy != "") == (state != "ok")


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(examined, "write_speed", refuse)
    found = disk("project", tmp_path)
    assert found.state == "problem"
    assert "Permission denied" in found.text


def test_the_speed_is_positive(tmp_path):
    assert write_speed(tmp_path, 2**20) > 0


def test_ended_runs_whose_results_wait_are_counted_and_running_ones_are_not(tmp_path):
    assert list(unsent(tmp_path / "absent")) == []
    spools = [Spool(tmp_path / name / SPOOL_DIR) for name in ("a" * 32, "b" * 32)]
    for spool in spools:
        spool.describe({"store": "sqlite:///x"})
        spool.add("metric", key="x")
    assert (tmp_path / ("a" * 32) / LOCK_FILE).exists()
    spools[0].close()
    [found] = unsent(tmp_path)
    assert found.state == "note"
    assert "results of 1 ended runs" in found.text
    assert "a" * 32 in found.text
    spools[1].close()


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path):
    mounts = tmp_path / "mounts"
    inner = tmp_path / "my data"
    inner.mkdir()
    named = str(inner).replace(" ", r"\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {named} nfs4 rw 0 0\nbroken\n")
    assert file_system(inner / "below", mounts) == "nfs4"
    assert file_system(Path("/"), mounts) == "ext4"
    assert file_system(Path("/"), tmp_path / "absent") == ""


def test_a_folder_that_does_not_exist_yet_stands_for_the_one_above(tmp_path):
    assert existing(tmp_path / "not" / "there") == tmp_path


def test_images_without_a_label_that_get_a_pseudo_label_are_no_problem(tmp_path):
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "t.csv").write_text("image_id,label\na,mel\nb,nv\nc,\nd,\n")
    (tmp_path / "pseudo.csv").write_text("image_path,label\nc.png,nv\n")
    given = ("dataset=csv", f"dataset.root={tmp_path}", "dataset.table=t.csv")
    [without] = data_set(compose(given, root=tmp_path).config)
    assert without.state == "problem"
    [found] = data_set(compose([*given, f"dataset.pseudo_labels={tmp_path / 'pseudo.csv'}"], root=tmp_path).config)
    assert (found.state, "3 images, 2 classes" in found.text) == ("ok", True), found.text
