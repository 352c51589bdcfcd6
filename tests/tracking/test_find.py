import sqlite3

import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import download_artifact, read_predictions


def make_run(store: Store, name: str, metrics: dict[str, float], status: str = "FINISHED", **tags: str) -> str:
    created = store.client.create_run(store.experiment_id("tests"), run_name=name, tags=tags)
    for key, value in metrics.items():
        store.client.log_metric(created.info.run_id, key, value)
    if status != "RUNNING":
        store.client.set_terminated(created.info.run_id, status)
    return str(created.info.run_id)


def test_id_and_unique_prefix(store: Store) -> None:
    run_id = make_run(store, "one", {"val/loss": 0.5}, git_commit="abc")
    for spec in (run_id, run_id[:8], run_id[:8].upper()):
        run = find_run(store, spec)
        assert run.run_id == run_id
    assert (run.name, run.status, run.metrics, run.tags["git_commit"]) == ("one", "FINISHED", {"val/loss": 0.5}, "abc")


def test_prefix_of_several_runs_lists_them(store: Store) -> None:
    import uuid
    from unittest.mock import patch

    ids = [f"abcd{number}{'0' * 27}" for number in range(2)]
    with patch.object(uuid, "uuid4", side_effect=[uuid.UUID(text) for text in ids]):
        for number in range(2):
            make_run(store, f"run {number}", {})
    with pytest.raises(ConfigError, match="begins 2") as caught:
        find_run(store, "abcd")
    assert all(text in str(caught.value) for text in ids)
    assert find_run(store, "abcd1").name == "run 1"


def test_latest_is_the_last_started_whatever_its_status_but_trained(store: Store) -> None:
    make_run(store, "first", {})
    last = make_run(store, "last", {}, status="FAILED", **{"sweep_id": "s", "mlflow.parentRunId": "p"})
    make_run(store, "parent", {}, sweep_id="s")
    for kind in ("preview", "comparison", "imported"):
        make_run(store, kind, {}, kind=kind)
    assert find_run(store, "latest").run_id == last


def test_latest_of_an_empty_store(store: Store) -> None:
    with pytest.raises(ConfigError, match="has none yet"):
        find_run(store, "latest")


def test_best_is_highest_lowest_for_a_loss_and_finished(store: Store) -> None:
    good = make_run(store, "good", {"test/balanced_accuracy": 0.7, "test/loss": 0.9})
    sharp = make_run(store, "sharp", {"test/balanced_accuracy": 0.6, "test/loss": 0.4})
    make_run(store, "undefined", {"test/balanced_accuracy": float("nan"), "test/loss": float("nan")})
    make_run(store, "unfinished", {"test/balanced_accuracy": 0.99, "test/loss": 0.01}, status="FAILED")
    assert find_run(store, "best:test/balanced_accuracy").run_id == good
    assert find_run(store, "best:test/loss").run_id == sharp


def test_the_best_loss_of_validation_is_told_to_be_one_of_several_losses(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [make_run(store, f"run {number}", {"best/val/loss": 0.5 + number, "test/loss": 1.0}) for number in range(2)]
    for run_id in runs:
        store.client.log_param(run_id, "loss._target_", "lesion_exp.loss.cross_entropy.CrossEntropy")
    assert find_run(store, "best:val/loss").run_id == runs[0]
    assert caplog.text == ""
    other = make_run(store, "other", {"best/val/loss": 0.1})
    store.client.log_param(other, "loss._target_", "lesion_exp.loss.focal.Focal")
    assert find_run(store, "best:val/loss").run_id == other
    assert "was trained with another loss (loss._target_ is lesion_exp.loss.cross_entropy" in caplog.text
    caplog.clear()
    find_run(store, "best:test/loss")
    assert caplog.text == "", "the log loss, whatever the network was trained with"


def test_losses_that_differ_in_training_alone_are_compared_by_the_loss_of_validation(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"loss._target_": "lesion_exp.loss.distill.Distill", "loss.labels._target_": "lesion_exp.loss.focal.Focal"}
    for temperature, gamma in ((2.0, 2.0), (4.0, 2.0), (4.0, 1.0)):
        caplog.clear()
        run_id = make_run(store, "student", {"best/val/loss": 1 / temperature})
        for key, value in {**params, "loss.temperature": temperature, "loss.labels.gamma": gamma}.items():
            store.client.log_param(run_id, key, value)
        find_run(store, "best:val/loss")
        assert ("another loss (loss.labels.gamma is" in caplog.text) == (gamma == 1)
        assert "temperature" not in caplog.text


def test_best_of_a_class_whose_name_mlflow_does_not_take(store: Store) -> None:
    runs = [make_run(store, "odd", {"test/recall/bcc _x28_-_x29_": value}) for value in (0.5, 0.9, 0.7)]
    for spelled in ("bcc (-)", "bcc _x28_-_x29_"):
        assert find_run(store, f"best:test/recall/{spelled}").run_id == runs[1]
    assert find_run(store, runs[1]).results() == {"test/recall/bcc (-)": 0.9}


def test_best_of_validation_counts_the_best_epoch(store: Store) -> None:
    peaked = make_run(store, "peaked", {"val/balanced_accuracy": 0.5, "best/val/balanced_accuracy": 0.8})
    make_run(store, "steady", {"val/balanced_accuracy": 0.6, "best/val/balanced_accuracy": 0.7})
    assert find_run(store, "best:val/balanced_accuracy").run_id == peaked


def test_best_prefers_a_run_that_is_not_leaky(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    leaky = make_run(store, "leaky", {"test/accuracy": 0.92}, leaky="true")
    assert find_run(store, "best:test/accuracy").run_id == leaky
    honest = make_run(store, "honest", {"test/accuracy": 0.71}, leaky="false")
    assert find_run(store, "best:test/accuracy").run_id == honest
    assert leaky in caplog.text


def test_unknown_metric_names_the_nearest(store: Store) -> None:
    make_run(store, "one", {"test/balanced_accuracy": 0.7})
    with pytest.raises(ConfigError, match="'test/balanced_accuracy'"):
        find_run(store, "best:test/balanced_acuracy")


def test_alias_with_and_without_model(store: Store) -> None:
    run_id = make_run(store, "one", {})
    for model in ("ham", "isic"):
        store.client.create_registered_model(model)
        store.client.create_model_version(model, f"runs:/{run_id}/model", run_id=run_id)
    store.client.set_registered_model_alias("ham", "champion", "1")
    assert find_run(store, "champion").run_id == run_id
    store.client.set_registered_model_alias("isic", "champion", "1")
    assert find_run(store, "isic@champion").run_id == run_id
    with pytest.raises(ConfigError, match="Name the model, too: run="):
        find_run(store, "champion")
    with pytest.raises(ConfigError, match="did you mean 'isic@champion'"):
        find_run(store, "isik@champion")


def test_unknown_run_lists_near_ids_or_names_or_the_latest(store: Store) -> None:
    run_id = make_run(store, "ham10000 resnet18", {})
    make_run(store, "other", {})
    typo = run_id[:7] + ("0" if run_id[7] != "0" else "1")
    with pytest.raises(ConfigError, match=f"Similar ids in .*\n.*{run_id}"):
        find_run(store, typo)
    with pytest.raises(ConfigError, match=f"of that name in .*\n.*{run_id}"):
        find_run(store, "ham10000 resnet18")
    with pytest.raises(ConfigError, match="The latest runs"):
        find_run(store, "nonsense!")


def test_missing_artifact_names_the_nearest(store: Store) -> None:
    run = find_run(store, make_run(store, "one", {}))
    folder = store.artifact_dir(run.artifact_uri)
    assert folder is not None
    (folder / "predictions").mkdir(parents=True)
    (folder / "predictions" / "val.parquet").write_bytes(b"")
    assert download_artifact(run, "predictions") == folder / "predictions"
    with pytest.raises(DataError, match=r"'predictions/val\.parquet'"):
        read_predictions(run, "test")
    with pytest.raises(DataError, match=r"with test=true; split\.part=val"):
        read_predictions(run, "test")


def test_a_run_is_read_without_mlflow_as_with_it(store: Store) -> None:
    created = store.client.create_run(store.experiment_id("tests"), run_name="", tags={"mlflow.runName": "from a tag"})
    run_id = created.info.run_id
    for key, value in {"val/loss": 0.1 + 0.2, "val/auroc": float("nan"), "val/worst": float("inf")}.items():
        store.client.log_metric(run_id, key, 9.0, step=0)
        store.client.log_metric(run_id, key, value, step=1)
    store.client.log_param(run_id, "seed", "1")
    store.client.set_tag(run_id, "kind", "train")
    by_client = next(runs_where(store, f"attributes.run_id = '{run_id}'"))
    for spec in (run_id, run_id[:8], "latest"):
        found = find_run(store, spec)
        assert repr({**vars(found), "store": None}) == repr({**vars(by_client), "store": None}), (
            "repr, since NaN != NaN"
        )
    store.client.delete_run(run_id)
    for spec in (run_id, "latest"):
        with pytest.raises(ConfigError):
            find_run(store, spec)


def test_a_database_that_cannot_be_read_now_is_left_to_mlflow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = make_run(store, "one", {})

    def busy(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("lesion_exp.tracking.embedded_runs.read_only", busy)
    assert find_run(store, run_id).run_id == find_run(store, "latest").run_id == run_id
