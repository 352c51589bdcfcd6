"""What the driver of a sweep does for one cell does not grow with the number of cells: reads are counted, not timed."""

import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow import MlflowClient

from lesion_exp.sweeps import adaptive, choices, driver
from lesion_exp.sweeps.cell import CELL_TAG, Cell, data_digest
from lesion_exp.sweeps.choices import best_means, group_cells
from lesion_exp.sweeps.ledger import Sweep, create_sweep, find_sweep, new_sweep_id
from lesion_exp.sweeps.parent_run import ParentRun
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.summary import as_frame, summarize
from tests.sweeps.conftest import TINY, ScriptedLauncher
from tests.sweeps.test_driver import fingerprint_of, finished_run, parent, statuses, today  # noqa: F401 (a fixture)
from tests.tracking.test_many_runs import add_runs

FEW, MANY = 50, 200
METRIC = "val/balanced_accuracy"
RATES = "optimizer.lr=interval(0.001,0.1)"


@dataclass
class Reads:
    """The files that this process opens in a folder, by name, and how often it lists a folder there."""

    folder: str
    opened: Counter = field(default_factory=Counter)
    listed: int = 0

    def total(self):
        return self.opened.total() + self.listed


_COUNTED: list[Reads] = []


def _hear(event, arguments):
    if _COUNTED and event in ("open", "os.scandir", "os.listdir") and isinstance(arguments[0], (str, os.PathLike)):
        path = os.fspath(arguments[0])
        for reads in _COUNTED:
            if path.startswith(reads.folder):
                if event == "open":
                    reads.opened[path.rpartition("/")[2]] += 1
                else:
                    reads.listed += 1


@pytest.fixture(scope="session")
def heard():
    """Lets the interpreter report each file that is opened; there is no way to end that before the process ends."""
    sys.addaudithook(_hear)


@contextmanager
def counted(folder):
    reads = Reads(str(folder))
    _COUNTED.append(reads)
    try:
        yield reads
    finally:
        _COUNTED.remove(reads)


class CountingLauncher(ScriptedLauncher):
    """Notes the value of `count` before each cell ends, so before the first and between two of them."""

    def __init__(self, count, **options):
        super().__init__(lambda text: 0.5, **options)
        self.count, self.counts = count, []

    def wait(self, seconds):
        self.counts.append(self.count())
        return super().wait(seconds)

    @property
    def for_a_cell(self):
        return [after - before for before, after in zip(self.counts[:-1], self.counts[1:], strict=True)]


@pytest.fixture(scope="module")
def plan(project):
    return plan_sweep([*TINY, "optimizer.lr=0.1,0.2", "seed=0,1"], root=project, force=True)


@pytest.fixture(scope="module")
def searching(project):
    words = ("search=optuna", "search.num_cells=5", "search.sampler=random", "search.startup_cells=2", RATES)
    return plan_sweep([*TINY, *words], root=project, force=True)


@pytest.fixture
def plant(plan, tmp_path):
    """Writes a sweep with `count` cells, two seeds of each learning rate; the first `done` of them have finished.

    All have the job of the first cell, but hashes of their own.
    """

    def make(count, done=0, *, plan=plan, force=True):
        facts = replace(plan.facts, sweep_id=new_sweep_id(), force=force)
        job, overrides = plan.tried[0]
        sweep = create_sweep(tmp_path / "sweeps", facts, [(job, overrides)], [Path("conf").absolute()])
        body = json.loads((sweep.cell(0).folder / "cell.json").read_text())
        for number in range(count):
            cell = sweep.cell(number)
            if number:
                cell.folder.mkdir()
                shutil.copyfile(sweep.cell(0).folder / "job.yaml", cell.folder / "job.yaml")
            own = {"overrides": [f"optimizer.lr={number // 2}", f"seed={number % 2}"], "job_hash": f"{number:016x}"}
            (cell.folder / "cell.json").write_text(json.dumps({**body, **own}))
            if number < done:
                state = {"status": "finished", "attempts": 1, "run_id": f"run {number}", "started": 1.0, "ended": 2.0}
                metrics = {f"best/{METRIC}": 0.5 + number / 1000}
                (cell.folder / "state.json").write_text(json.dumps({**state, "metrics": metrics}))
        return sweep

    return make


@pytest.mark.parametrize("done", [0, 10])
def test_a_cell_takes_as_many_reads_in_a_large_sweep_as_in_a_small_one(heard, plant, driven, done):
    found = []
    for count in (FEW, MANY):
        sweep = plant(count, count - 20 if done else 0)
        with counted(sweep.folder) as reads:
            launcher = CountingLauncher(reads.total)
            summary = driven(sweep, launcher)
        assert summary.counts() == {"finished": count}
        assert len(launcher.order) == (20 if done else count)
        found.append((max(launcher.for_a_cell), launcher.counts[0] / count, reads.total() / count))
    few, many = found
    assert many[0] == few[0] < 15, "the reads of a cell"
    assert many[1] <= few[1], "before the first cell, each of them is read a few times"
    assert many[2] <= few[2], "the reads of the whole sweep, for each of its cells"


def test_cells_that_all_run_at_once_are_not_all_read_whenever_one_ends(heard, plant, driven, monkeypatch):
    monkeypatch.setattr(driver, "RUNNING_SECONDS", 3600.0)
    totals = []
    for count in (FEW, MANY):
        sweep = plant(count)
        with counted(sweep.folder) as reads:
            driven(sweep, CountingLauncher(reads.total, capacity=1000))
        totals.append(reads.total() / count)
    assert totals[1] <= totals[0]


def test_the_kept_rows_are_those_on_the_disk_whenever_a_cell_ends(plant, driven, monkeypatch):
    monkeypatch.setattr(driver, "RUNNING_SECONDS", -1.0)
    update, seen = ParentRun.update, []

    def compare(self, summary):
        fresh = summarize(self.sweep)
        assert as_frame(summary).equals(as_frame(fresh))
        assert summary.counts() == fresh.counts()
        seen.append(summary.counts())
        update(self, summary)

    monkeypatch.setattr(ParentRun, "update", compare)
    sweep = plant(12, 4)
    failing = {"optimizer.lr=3 seed=0": RuntimeError("no luck"), "optimizer.lr=4 seed=1": None}
    driven(sweep, ScriptedLauncher(lambda text: failing.get(text, 0.5), capacity=3))
    assert len(seen) == 8
    assert seen[-1] == {"finished": 10, "failed": 1, "queued": 1}


def test_choices_are_compared_at_the_end_and_not_after_each_cell(plant, driven, monkeypatch):
    calls, real = [], choices.repeated
    monkeypatch.setattr(choices, "repeated", lambda *given: calls.append(1) or real(*given))
    sweep = plant(20)
    driven(sweep, ScriptedLauncher(lambda text: 0.5 + sum(map(ord, text)) % 100 / 1000))
    assert len(calls) == 1
    run = parent(sweep)
    rows = as_frame(summarize(sweep))
    assert run.metrics[f"sweep/best/{METRIC}"] == pytest.approx(rows.groupby("optimizer.lr")[METRIC].mean().max())


@pytest.mark.parametrize("metrics", [("val/loss",), ("val/balanced_accuracy", "val/loss")])
@pytest.mark.parametrize("key", ["seed", "split.fold", "split"])
def test_the_best_means_are_those_of_the_choices_that_are_compared(metrics, key):
    rng = np.random.default_rng(0)
    for _ in range(20):
        cells = [
            SimpleNamespace(
                number=number,
                values={"loss": f"{number // 3}", key: f"{number % 3}"},
                metrics={name: float("nan") if rng.random() < 0.1 else rng.random() for name in metrics},
                run_id=None,
            )
            for number in rng.permutation(18)
        ]
        ways = ["maximize" if name == "val/balanced_accuracy" else "minimize" for name in metrics]
        compared = group_cells(cells, metrics, ways)
        front = compared.front or compared.ranked
        expected = {
            name: (max if way == "maximize" else min)(choice.results[name].mean for choice in front)
            for name, way in zip(metrics, ways, strict=True)
        }
        assert best_means(cells, metrics, ways) == expected
    assert best_means([], metrics, ways) == {}


def test_the_store_is_asked_for_a_cell_when_its_turn_comes(plant, driven, monkeypatch):
    asked, real = [], MlflowClient.search_runs

    def search(self, *given, **options):
        asked.append(given[1] if len(given) > 1 else options.get("filter_string"))
        return real(self, *given, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", search)
    found = []
    for count in (FEW, MANY):
        asked.clear()
        launcher = CountingLauncher(lambda: len(asked))
        driven(plant(count, force=False), launcher)
        assert sum("tags.job_hash" in text for text in asked) == count
        found.append((launcher.counts[0], set(launcher.for_a_cell)))
    assert found[0] == found[1]
    assert found[0][1] == {1}


def test_a_cell_that_was_done_before_is_entered_when_its_turn_comes_and_counts(planned, driven):
    finished_run(planned("seed=61,62"), None, {})
    sweep = planned("seed=62,61", force=False)
    seen = []
    launcher = ScriptedLauncher(lambda text: seen.append(statuses(sweep)) or 0.5)
    driven(sweep, launcher)
    assert launcher.order == ["seed=62"]
    assert seen == [["queued", "queued"]]
    assert statuses(sweep) == ["finished", "finished"]
    assert "done before" in sweep.cell(1).state().note
    run = parent(sweep)
    assert (run.status, run.metrics["sweep/finished"]) == ("FINISHED", 2)


def test_a_search_finds_its_cells_without_reading_all_of_them(heard, plant, searching, driven, monkeypatch):
    monkeypatch.setattr(adaptive, "check_cell", lambda *_: None)
    found = []
    for count in (FEW, MANY):
        sweep = plant(count, count, plan=searching)
        with counted(sweep.folder / "cells") as reads:
            launcher = CountingLauncher(reads.total)
            driven(sweep, launcher)
        assert [cell.number for cell in sweep.cells()] == [*range(count + 5)]
        assert len(launcher.order) == 5
        found.append((max(launcher.for_a_cell), launcher.counts[0] / count))
    assert found[1][0] == found[0][0]
    assert found[1][1] <= found[0][1]


def test_the_latest_of_many_sweeps_is_read_alone(heard, plant):
    sweep = plant(2)
    folder, name = sweep.folder.parent, sweep.facts.sweep_id
    for number in range(30):
        older = folder / f"20200101-0000{number:02d}-0000"
        older.mkdir()
        shutil.copyfile(sweep.folder / "sweep.json", older / "sweep.json")
    with counted(folder) as reads:
        assert find_sweep(folder, "latest").facts.sweep_id == name
    assert reads.opened == {"sweep.json": 1}


def test_cells_are_in_the_order_of_their_numbers_also_above_ten_thousand(tmp_path):
    sweep = Sweep(tmp_path, None)
    for number in (10_000, 9_999, 1_000, 0):
        sweep.cell(number).folder.mkdir(parents=True)
    assert [cell.number for cell in sweep.cells()] == [0, 1_000, 9_999, 10_000]


def test_a_sweep_that_was_killed_goes_on_after_many_finished_cells(heard, plant, driven, today, caplog):  # noqa: F811
    """The data of all cells are the same, so the job of one of them is read to compare them with the current ones."""
    found = []
    for count, begun in ((FEW, 1000), (MANY, 2000)):
        sweep = plant(count, count - 10)
        killed = sweep.cell(count - 10)
        killed.write(status="running", attempts=1, host=os.uname().nodename)
        runs_of_cells(sweep, count - 9, begun)
        today(fingerprint_of(labels="labels 2"))
        before = [cell.recorded() for cell in sweep.cells()]
        with counted(sweep.folder) as reads:
            launcher = CountingLauncher(reads.total)
            summary = driven(sweep, launcher)
        assert len(launcher.order) == 10
        assert [cell.recorded() for cell in sweep.cells()][: count - 10] == before[: count - 10]
        assert [row.state.attempts for row in summary.rows[count - 10 :]] == [2, *[1] * 9]
        assert summary.counts() == {"finished": count}
        assert parent(sweep).status == "FINISHED"
        assert reads.opened["job.yaml"] == 1
        assert f"cells {', '.join(map(str, range(count - 9)))} were begun on data that differ" in caplog.text
        found.append(max(launcher.for_a_cell))
        assert launcher.counts[0] < 4 * count, "before the first cell"
    assert found[1] == found[0]


def runs_of_cells(sweep, count, begun):
    """Runs of the first cells as their processes would leave them, as far as a driver reads them."""
    store = sweep.project.store
    tags = {"sweep_id": sweep.facts.sweep_id, **fingerprint_of().tags()}
    ids = add_runs(store, count, begun=begun, metric=f"best/{METRIC}", **tags)
    rows = [(run_id, CELL_TAG, f"{number:04d}") for number, run_id in enumerate(ids)]
    with closing(sqlite3.connect(store.database)) as connection, connection:
        connection.executemany("INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", rows)


def test_a_cell_of_an_earlier_version_has_its_data_in_its_job(plant):
    cell = plant(1).cell(0)
    known = cell.data_key()
    body = json.loads((cell.folder / "cell.json").read_text())
    del body["data"]
    (cell.folder / "cell.json").write_text(json.dumps(body))
    assert Cell(cell.folder).data_key() == known == data_digest(cell.job().config)
