from pathlib import Path

import pytest
import torch

from lesion_exp.command.arguments import Arguments
from lesion_exp.command.chosen_run import chosen_run, read_moved
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import Store, open_store
from lesion_exp.trained_runs.moved_data import MovedData
from lesion_exp.trained_runs.trained_run import TrainedRun


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path)


def test_a_checkpoint_whose_run_lies_elsewhere_is_refused_with_both_remedies(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {}, "lesion_exp": {"run_id": "ab" * 16}}, path)
    with pytest.raises(ConfigError, match=r"found no abab.*tracking\.uri=.*bundle export run=abab"):
        chosen_run(store, str(path))


def test_a_sweep_that_is_taken_for_a_run_says_where_its_cells_are(store: Store) -> None:
    tags = {"kind": "sweep", "sweep_id": "20260101-120000-ab12"}
    made = store.client.create_run(store.experiment_id("tests"), tags=tags).info.run_id
    with pytest.raises(ConfigError, match="one of its cells, which lesion-exp sweep status 20260101-120000-ab12 lists"):
        TrainedRun(find_run(store, made), None, {}).job_config("predictions")


def test_safetensors_are_told_what_they_are_for_and_where_the_checkpoint_lies(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    with pytest.raises(
        ConfigError, match=r"run=FILE\.ckpt with the run's artifact checkpoints/best\.ckpt.*backbone\.weights="
    ):
        chosen_run(store, str(path))
    path.with_suffix(".ckpt").touch()
    with pytest.raises(ConfigError, match=r"write run=.*best\.ckpt, the checkpoint beside it"):
        chosen_run(store, str(path))


def test_the_folder_of_a_set_is_named_with_or_without_root() -> None:
    arguments = Arguments(["dataset.sets.a=/x", "dataset.sets.root=/y", "dataset.sets.b.root=~/z", "split.path=s.csv"])
    found = read_moved(arguments, MovedData)
    sets = {"dataset.sets.a": Path("/x"), "dataset.sets.root": Path("/y"), "dataset.sets.b": Path.home() / "z"}
    assert found.places == {"split.path": Path("s.csv"), **sets}
    assert arguments.overrides == []
    with pytest.raises(ConfigError, match=r"expected dataset\.sets\.a= once, got dataset\.sets\.a=/x dataset"):
        read_moved(Arguments(["dataset.sets.a=/x", "dataset.sets.a.root=/y"]), MovedData)
