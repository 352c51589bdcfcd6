"""The folds of a cross-validation are found without reading the jobs of all runs: reads are counted, not timed."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.tracking.store import Store
from lesion_exp.verbs.evaluate import evaluated_runs
from lesion_exp.verbs.evaluate.evaluated_runs import fold_runs
from tests.tracking.test_many_runs import add_runs

FOLDS, FEW, MANY = 3, 4, 20


class Runs:
    """Runs of folds in a store, whose jobs are kept here; `jobs_read` and `runs_read` count what is read."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.jobs = store, {}
        self.jobs_read: list[str] = []
        self.runs_read = 0
        (store.root / "none" / "config").mkdir(parents=True)
        (store.root / "none" / "config" / "job.yaml").touch()
        search = store.client.search_runs

        def counted(*given: Any, **options: Any) -> Any:
            page = search(*given, **options)
            self.runs_read += len(page)
            return page

        monkeypatch.setattr(store.client, "search_runs", counted)
        monkeypatch.setattr(evaluated_runs, "job_of", self._job_of)

    def _job_of(self, run: Any) -> Any:
        self.jobs_read.append(run.run_id)
        return SimpleNamespace(config=self.jobs[run.run_id], files={})

    def add(self, fold: int, *, seed: int = 0, lr: Any = 0.1, degrees: Any = 10, root: str = "here") -> str:
        number = len(self.jobs)
        (run_id,) = add_runs(self.store, 1, begun=number)
        self.jobs[run_id] = {
            "split": {"_target_": "kfold", "num_folds": FOLDS, "fold": fold, "seed": 0},
            "dataset": {"_target_": "set", "root": root},
            "augmentation": {"degrees": degrees, "path": f"/data/{root}"},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": lr},
            "seed": seed,
        }
        params = flat_params(self.jobs[run_id])
        with closing(sqlite3.connect(self.store.database or "")) as connection, connection:
            rows = [(run_id, name, text) for name, text in params.items()]
            connection.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", rows)
        return run_id

    def folds(self, run_id: str) -> list[str]:
        self.jobs_read, self.runs_read = [], 0
        return [run.run_id for run in fold_runs(find_run(self.store, run_id))]


@pytest.fixture
def runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(store, monkeypatch)


def test_as_many_jobs_are_read_among_many_cross_validations_as_among_few(runs: Runs) -> None:
    counts = []
    for others in (FEW, MANY):
        mine = [runs.add(fold, degrees=f"{others}.5") for fold in range(FOLDS)]
        for number in range(others):
            for fold in range(FOLDS):
                runs.add(fold, seed=1 + number)
                runs.add(fold, lr=0.2 + number / 100)
        runs.add(0, degrees="another")
        assert runs.folds(mine[1]) == mine
        assert len(runs.jobs_read) == 1 + FOLDS, "that of the run, and those of the folds"
        counts.append(runs.runs_read)
    assert counts[1] < 2 * FOLDS + counts[0], "the store leaves out other seeds and learning rates"


def test_nothing_is_read_once_there_is_a_run_of_each_fold(runs: Runs) -> None:
    found = [[runs.add(fold) for fold in range(FOLDS)] for _ in range(MANY)]
    assert runs.folds(found[0][0]) == found[-1], "the newest ones"
    assert len(runs.jobs_read) == 1 + FOLDS
    assert runs.runs_read < 20


def test_folds_are_found_that_spell_a_value_or_a_folder_in_another_way(runs: Runs) -> None:
    mine = [
        runs.add(0, lr=1.0, degrees=10.0, root="here"),
        runs.add(1, lr=1, degrees=10, root="there"),
        runs.add(2, lr=1.0, degrees=10),
    ]
    for run_id in mine:
        runs.jobs[run_id]["augmentation"]["path"] = "one"
    assert [runs.folds(run_id) for run_id in mine] == [mine] * FOLDS


def test_a_value_that_differs_makes_another_cross_validation(runs: Runs) -> None:
    for name, value in (("seed", 5), ("lr", 0.5), ("lr", 3), ("degrees", 30), ("degrees", "none")):
        one = runs.add(0, **{name: value})
        runs.add(1, **{name: value})
        runs.add(2)
        with pytest.raises(ConfigError, match=r"there is none of fold 2"):
            runs.folds(one)
