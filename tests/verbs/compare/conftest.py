from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesion_exp.config.compose import Bases, compose
from lesion_exp.config.freeze import freeze
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.tracking.store import Store, open_store

CLASSES = ("bkl", "mel", "nv")
Plant = Callable[..., str]


@pytest.fixture(scope="session")
def bases() -> Bases:
    return {}


def predicted(skill: float, seed: int = 0, size: int = 120, first: int = 0) -> pd.DataFrame:
    """Predictions on images `first` to `first + size`, two of each lesion; `skill` decides how many are right."""
    rng = np.random.default_rng(7)
    true = rng.choice(3, 1000, p=[0.3, 0.2, 0.5])[first : first + size]
    noise = np.random.default_rng(seed).normal(size=(size, 3)) + rng.normal(size=(1000, 3))[first : first + size]
    logits = noise + skill * np.eye(3)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"img{place}" for place in range(first, first + size)]
    rows = pd.DataFrame(
        {
            "image_id": names,
            "row_id": names,
            "lesion_id": [f"les{place // 2}" for place in range(first, first + size)],
            "patient_id": None,
            "label": [CLASSES[place] for place in true],
            "age": 50.0,
            "sex": "female",
            "site": "back",
            "source": "generated",
        }
    )
    return predictions_table(rows, probs, CLASSES)


@pytest.fixture
def plant(store: Store, root: Path, bases: Bases) -> Plant:
    """Writes a run with predictions into the store, without training; its id."""
    return planter(store, root, bases)


@pytest.fixture(scope="module")
def planted(empty_root: Path, bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A project with four runs for tests that only read them, and their ids."""
    root = Path(shutil.copytree(empty_root, tmp_path_factory.mktemp("planted") / "project"))
    losses = ("focal", "cross_entropy", "soft_f1", "ldam")
    plant = planter(open_store(None, root), root, bases)
    ids = [plant(f"loss={loss}", test=predicted(4.0 - place, place)) for place, loss in enumerate(losses)]
    return root, ids


def planter(store: Store, root: Path, bases: Bases) -> Plant:
    """What writes runs with predictions into the store, without training, and gives their ids."""

    def make(
        *overrides: str,
        test: pd.DataFrame | None = None,
        val: pd.DataFrame | None = None,
        with_job: bool = True,
        status: str = "FINISHED",
        **tags: str,
    ) -> str:
        job = freeze(compose(["dataset=synthetic", *overrides], root=root, bases=bases))
        name = f"run s{job.config['seed']}"
        first = {"kind": "train", "split_hash": "s1", "dataset_fingerprint": "d1", "git_commit": "c1", **tags}
        info = store.client.create_run(store.experiment_id("study"), tags=first, run_name=name).info
        with tempfile.TemporaryDirectory() as folder:
            if with_job:
                job.write(Path(folder) / "config" / "job.yaml")
            for part, table in (("test", test), ("val", val)):
                if table is not None:
                    path = Path(folder) / "predictions" / f"{part}.parquet"
                    path.parent.mkdir(exist_ok=True)
                    table.to_parquet(path, index=False)
            for path in Path(folder).rglob("*.*"):
                store.put_artifact(info.run_id, info.artifact_uri, path, path.relative_to(folder).as_posix())
        store.client.set_terminated(info.run_id, status)
        return str(info.run_id)

    return make


@pytest.fixture
def own_process(own_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs commands outside the checkout, too, on a screen of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(name="predicted")
def predicted_fixture() -> Callable[..., pd.DataFrame]:
    return predicted
