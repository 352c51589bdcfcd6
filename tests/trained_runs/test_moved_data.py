"""A run whose data have moved is used with the keys of its job: several data sets, a split, pseudo-labels."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesion_exp import open_run
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import Job, freeze, place_keys
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.trained_run import reading_ahead, trained_run
from lesion_exp.training.data import load_data, split_data
from lesion_exp.verbs.evaluate.evaluated_runs import evaluated_runs
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from tests.refusal import assert_refused

SMALL = ("backbone=small_cnn", "trainer=cpu", "image_size=32", "print_config=false", "augmentation=none")
PARTS = ("train",) * 8 + ("val",) * 2 + ("test",) * 2
SETS = ("dataset.sets.first", "dataset.sets.second")
FILES = ("dataset.pseudo_labels", "split.path")
VERBS = (
    "resume run=STOPPED", "resume run=STOPPED trainer.max_epochs=9", "evaluate run=FINISHED tta=flips8",
    "explain run=FINISHED", "shortcuts run=FINISHED", "export run=FINISHED format=torchscript output=exported",
)  # fmt: skip
"""Commands that read the data of a run."""


def _clinic(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = ["image_path,image_id,label"]
    for number in range(len(PARTS)):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{name}{number}.png")
        rows.append(f"{name}{number}.png,{name}{number},{'mel' if number % 2 else 'nv'}")
    (folder / "t.csv").write_text("\n".join([*rows, ""]))


@dataclass
class Moved:
    """A job, its runs by their names, and the folder of its data, which were in `before` and are in `now`."""

    job: Job
    runs: dict[str, Run]
    before: Path
    now: Path

    @property
    def places(self) -> dict[str, Path]:
        """Where the data are now, by the keys of the job."""
        names = ("first", "second", "new/p.csv", "parts.csv")
        return {key: self.now / name for key, name in zip((*SETS, *FILES), names, strict=True)}

    def words(self, command: str) -> list[str]:
        """The words of a command with the id of the run for its name."""
        for name, run in self.runs.items():
            command = command.replace(name, run.run_id)
        return command.split()


@pytest.fixture(scope="module")
def moved(empty_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Runs on two tables with pseudo-labels and a split in a file; all have moved since."""
    root = Path(shutil.copytree(empty_root, tmp_path_factory.mktemp("moved") / "project"))
    before, now = root.parent / "data", root.parent / "elsewhere"
    for seed, name in enumerate(("first", "second", "new")):
        _clinic(before / name, name, seed)
    (before / "new" / "t.csv").rename(before / "new" / "p.csv")
    rows = [f"{name}/{name}{number},{part}" for name in ("first", "second") for number, part in enumerate(PARTS)]
    (before / "parts.csv").write_text("\n".join(["image_id,split", *rows, ""]))
    second = f"{{set: csv, root: {before / 'second'}, table: t.csv}}"
    sets = f"dataset.sets={{first: {{set: csv, root: {before / 'first'}, table: t.csv}}, second: {second}}}"
    files = [f"dataset.pseudo_labels={before / 'new' / 'p.csv'}", "split=file", f"split.path={before / 'parts.csv'}"]
    job = freeze(compose([*SMALL, "dataset=combined", sets, "dataset.classes=[mel,nv]", *files], root=root))
    split = split_data(job.config, load_data(job.config))
    tags = {"kind": "train", **split.loaded.data.tags(), "split_hash": split.split_hash}
    store, runs = Project.from_config(job.config).store, {}
    for name in ("FINISHED", "STOPPED"):
        with (
            TrackedRun.start(store, "study", name, tags, system_metrics_seconds=0) as started,
            started.new_file("config/job.yaml") as path,
        ):
            job.write(path)
        if name == "STOPPED":
            store.client.set_terminated(started.run_id, "KILLED")
        runs[name] = find_run(store, started.run_id)
    before.rename(now)
    return Moved(job, runs, before, now)


def test_with_all_keys_a_run_reads_the_same_data_in_another_place(moved: Moved) -> None:
    assert set(place_keys(moved.job)) == {*SETS, *FILES}
    opened = trained_run(moved.runs["FINISHED"], moved.job.project, moved.places)
    assert opened.job is not None
    assert opened.job.job_hash == moved.job.job_hash
    table = opened.data().table  # raises if data or split differ from those of the run
    assert set(table["source"]) == {"first", "second", "pseudo"}
    assert all(Path(path).is_relative_to(moved.now) for path in table["image_path"])


def test_each_message_names_the_key_of_what_is_missing(moved: Moved) -> None:
    """Typing what each message names leads to the next one, and at last to the data."""
    places: dict[str, Path] = {}
    for key, typed in (*((key, f"{key}.root=DIR") for key in SETS), *((key, f"{key}=FILE") for key in reversed(FILES))):
        opened = trained_run(moved.runs["FINISHED"], moved.job.project, places)
        for read in (opened.data, lambda opened=opened: reading_ahead(opened)):
            with pytest.raises(DataError, match=f"at {key}, but .* is at|at {key}, but there is no file at") as caught:
                read()
            assert typed in str(caught.value)
        places[key] = moved.places[key]
    opened = trained_run(moved.runs["FINISHED"], moved.job.project, places)
    with reading_ahead(opened):
        opened.data()


@pytest.mark.parametrize("command", VERBS)
def test_every_verb_reads_the_keys_and_says_which_of_them_it_lacks(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_process: None, command: str
) -> None:
    monkeypatch.chdir(moved.job.project.root)
    typed = [f"{key}={place}" for key, place in moved.places.items()]
    for key in moved.places:
        others = [word for word in typed if not word.startswith(f"{key}=")]
        said = f"at {key}, but "
        assert_refused(capsys, [*moved.words(command), *others], said)
        assert_refused(capsys, [*moved.words(command), *others, f"{key}=nowhere"], said)
    known = "; those are dataset.sets.first, dataset.sets.second, "
    assert_refused(capsys, [*moved.words(command), f"dataset.root={moved.now}"], known)


def test_an_evaluation_comes_to_the_network_if_all_keys_are_given(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_process: None
) -> None:
    monkeypatch.chdir(moved.job.project.root)
    typed = [f"{key}={place}" for key, place in moved.places.items()]
    assert_refused(capsys, [*moved.words("evaluate run=FINISHED tta=flips8"), *typed], "checkpoints/best.ckpt")


def test_of_several_runs_each_takes_the_keys_of_its_own_job(moved: Moved) -> None:
    project = moved.job.project
    alone = freeze(compose([*SMALL, "dataset=csv", f"dataset.root={moved.now / 'first'}", "dataset.table=t.csv"],
                           root=project.root))  # fmt: skip
    with (
        TrackedRun.start(project.store, "study", "alone", {"kind": "train"}, system_metrics_seconds=0) as started,
        started.new_file("config/job.yaml") as path,
    ):
        alone.write(path)
    runs = [moved.runs["FINISHED"], find_run(project.store, started.run_id)]
    request = EvaluationRequest("test", moved.job.config["evaluation"], places=moved.places)
    first, second = evaluated_runs(runs, request, project)
    assert first.data().table["image_id"].str.startswith("first/").any()
    assert second.job is not None
    assert second.job.config["dataset"] == alone.config["dataset"]
    request = EvaluationRequest("test", moved.job.config["evaluation"], places={"backbone.weights": moved.now})
    with pytest.raises(
        ConfigError, match=r"one of these jobs reads, got backbone\.weights=.*; those are dataset\.sets\.first, .*root"
    ):
        evaluated_runs(runs, request, project)


def test_python_opens_it_with_the_same_keys(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved.job.project.root)
    run_id = moved.runs["FINISHED"].run_id
    assert len(open_run(run_id, places=moved.places).data().table) == 3 * len(PARTS)


def test_pseudo_labels_without_weight_need_not_be_there(moved: Moved) -> None:
    sets = ", ".join(f"{key.rpartition('.')[2]}: {{set: csv, root: {moved.places[key]}, table: t.csv}}" for key in SETS)
    words = [f"dataset.pseudo_labels={moved.places[FILES[0]]}", "dataset.pseudo_weight=0"]
    job = freeze(compose([*SMALL, "dataset=combined", f"dataset.sets={{{sets}}}", *words], root=moved.job.project.root))
    with (
        TrackedRun.start(moved.job.project.store, "study", "0", {"kind": "train"}, system_metrics_seconds=0) as started,
        started.new_file("config/job.yaml") as path,
    ):
        job.write(path)
    gone = trained_run(
        find_run(moved.job.project.store, started.run_id),
        job.project,
    )
    file = moved.places[FILES[0]]
    file.rename(file.with_suffix(".away"))
    try:
        with reading_ahead(gone):
            pass
    finally:
        file.with_suffix(".away").rename(file)
