import hashlib
import json
import logging

import mlflow
import pandas as pd
import pytest
import torch

from lesion_exp.config.freeze import read_job
from lesion_exp.data.store import open_or_build
from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.evaluation.calibrator import fit_calibrator, read_calibrator
from lesion_exp.evaluation.registry import is_metric
from lesion_exp.model.restore import restore_file
from lesion_exp.progress import Stage, _board
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_history, read_predictions
from lesion_exp.training.check_training import check_training
from lesion_exp.training.run import train

ARTIFACTS = {
    "config/job.yaml",
    "config/overrides.txt",
    "split/manifest.parquet",
    "split/audit.json",
    "dataset/classes.png",
    "dataset/batch.png",
    "dataset/flow.json",
    *(f"confusion_matrix/{part}.{kind}" for part in ("val", "test") for kind in ("png", "json")),
    *(f"curves/{curve}_{part}.png" for part in ("val", "test") for curve in ("roc", "pr", "reliability")),
    *(f"classification_report/{part}.{kind}" for part in ("val", "test") for kind in ("txt", "json")),
    *(
        f"evaluation/{part}/{name}.json"
        for part in ("val", "test")
        for name in ("metrics", "isic", "subgroups", "failures")
    ),
    *(f"evaluation/test/{name}.json" for name in ("calibrated", "conformal", "operating", "decision_curve")),
    *(f"evaluation/test/{name}.png" for name in ("calibration", "decision_curve")),
    *(f"calibration/{method}.json" for method in ("temperature", "vector", "isotonic")),
    *(f"conformal/{method}.json" for method in ("lac", "aps")),
    "operating_points/points.json",
    "predictions/val.parquet",
    "predictions/test.parquet",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "checkpoints/best.safetensors",
    "checkpoints/best.state_dict.pt",
    "model/MLmodel",
    "model/requirements.txt",
    "model/input_example.json",
    "environment/packages.txt",
    "log.txt",
}

QUIET = ("test=false", "tracking.log_images=false", "tracking.log_model=false")


def run_of(job, run_id):
    return find_run(job.project.store, run_id)


def artifacts_of(run):
    folder = run.store.artifact_dir(run.artifact_uri)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def weights_hash(job, run_id, name="last"):
    path = download_artifact(run_of(job, run_id), f"checkpoints/{name}.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    return hashlib.sha256(b"".join(state[key].numpy().tobytes() for key in sorted(state))).hexdigest()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_best_epoch_is_that_of_the_metric_that_is_monitored(tiny_job):
    job = tiny_job(*QUIET, "trainer.monitor=val/loss", "trainer.max_epochs=4", "optimizer.lr=3e-3")
    run = run_of(job, train(job).run_id)
    losses, accuracies = (read_history(run)[f"val/{name}"] for name in ("loss", "balanced_accuracy"))
    best = min(losses, key=lambda point: point.value)
    assert best.step != max(accuracies, key=lambda point: point.value).step, "the metrics agree: nothing is tested"
    assert [point.step for point in read_history(run)["best/val/loss"]] == [best.step]
    assert run.metrics["best/val/loss"] == best.value
    content = torch.load(download_artifact(run, "checkpoints/best.ckpt"), weights_only=True)
    assert content["global_step"] == best.step + 1
    log = download_artifact(run, "log.txt").read_text("utf-8")
    ends = [line for line in log.splitlines() if "train/loss" in line]
    assert [line.count("val/loss") for line in ends] == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_the_log_of_a_run_has_one_line_an_epoch_whatever_is_shown(tiny_job, caplog, level):
    caplog.set_level(level, "lesion_exp")
    job = tiny_job(*QUIET)
    log = download_artifact(run_of(job, train(job).run_id), "log.txt").read_text("utf-8")
    assert log.count("train/loss") == 2


@pytest.mark.slow
def test_a_run_leaves_what_others_rely_on(tiny_job):
    job = tiny_job()
    result = train(job)
    run = run_of(job, result.run_id)
    assert artifacts_of(run) >= ARTIFACTS
    known = run.store.client.get_run(result.run_id)
    assert known.info.status == "FINISHED"
    tags, metrics = known.data.tags, known.data.metrics
    assert tags["job_hash"] == job.job_hash
    assert tags["leaky"] == "false"
    assert {"split_hash", "dataset_fingerprint", "git_commit"} <= set(tags)
    for name in ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro"):
        assert {f"val/{name}", f"test/{name}", f"best/val/{name}"} <= set(metrics)
    assert {"train/loss", "val/loss", "test/recall/mel", "test/auroc/nv", "time/images_per_second"} <= set(metrics)
    assert metrics["test/balanced_accuracy_low"] <= metrics["test/balanced_accuracy"]
    assert metrics["test/balanced_accuracy"] <= metrics["test/balanced_accuracy_high"]
    assert all(is_metric(name) for name in metrics if name.split("/")[0] not in ("train", "time", "system", "epoch"))
    for name in ("isic/balanced_accuracy", "calibrated/ece", "conformal/lac/coverage"):
        assert run.result(f"{name}_low") <= run.result(name) <= run.result(f"{name}_high")
        assert result.metrics[name] == run.result(name)
    points = {name: run.store.client.get_metric_history(run.run_id, name) for name in metrics}
    steps = {name: [point.step for point in found] for name, found in points.items()}
    assert [point.value for point in points["epoch"]] == [1, 2]
    for name in ("val/loss", "train/loss", "train/lr", "time/epoch_seconds", "val/recall/mel"):
        assert steps[name] == steps["epoch"], name
    best = max(points["val/balanced_accuracy"], key=lambda point: point.value)
    assert steps["best/val/balanced_accuracy"] == [best.step]
    assert metrics["best/val/balanced_accuracy"] == best.value
    assert known.data.params["optimizer.lr"] == "0.003"
    assert {entry.dataset.name for entry in known.inputs.dataset_inputs} == {
        f"synthetic {p}" for p in ("train", "val", "test")
    }

    manifest = pd.read_parquet(download_artifact(run, "split/manifest.parquet"))
    predicted = read_predictions(run, "test")
    assert set(predicted["image_id"]) == set(manifest.loc[manifest["split"] == "test", "image_id"])
    assert predicted["image_id"].is_unique
    probs = predicted.filter(regex="^p_")
    assert list(probs) == [f"p_{name}" for name in sorted(manifest["label"].unique())]
    assert probs.to_numpy().dtype == "float32"
    assert not run.live_dir.exists()

    card = torch.load(download_artifact(run, "checkpoints/best.ckpt"), weights_only=True)["lesion_exp"]
    assert card["classes"] == sorted(manifest["label"].unique())
    assert card["run_id"] == result.run_id
    assert restore_file(download_artifact(run, "model/best.safetensors")).card == card
    assert mlflow.models.Model.load(str(download_artifact(run, "model"))).run_id == result.run_id
    saved = json.loads(download_artifact(run, "calibration/temperature.json").read_text())
    assert read_calibrator(card["calibration"]["temperature"]) == read_calibrator(saved)
    assert read_calibrator(saved) == fit_calibrator("temperature", read_predictions(run, "val"))
    again = read_job(download_artifact(run, "config/job.yaml"))
    assert again.job_hash == job.job_hash


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_weights_do_not_depend_on_the_number_of_workers(tiny_job):
    options = (
        "augmentation=standard",
        "augmentation.mix.mixup_alpha=0.4",
        "trainer.ema_decay=0.9",
        "backbone.dropout=0.2",
        *QUIET,
    )
    hashes = set()
    for workers in (0, 2):
        job = tiny_job(*options, f"loader.num_workers={workers}")
        hashes.add(weights_hash(job, train(job).run_id))
    assert len(hashes) == 1
    other = tiny_job(*options, "seed=1")
    assert weights_hash(other, train(other).run_id) not in hashes


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_two_processes_train_the_head_and_then_all_weights_in_one_run_and_evaluate_every_image_once(tiny_job, tmp_path):
    plain = (*QUIET, "backbone.freeze_epochs=1", "augmentation=light")
    two = ("trainer=ddp_cpu", "trainer.devices=2", "loader.batch_size=8")
    whole = ("test=true", "tracking.log_images=true", "tracking.log_model=true")
    together = tiny_job(*plain, *two, *whole, root=tmp_path)
    alone = tiny_job(*plain, "loader.batch_size=16", root=tmp_path)
    together.project.opened()  # its processes would take seconds to make the tables of the store
    runs = [run_of(job, train(job).run_id) for job in (together, alone)]
    assert [run.status for run in runs] == ["FINISHED"] * 2
    losses = [[point.value for point in read_history(run)["train/loss"]] for run in runs]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)  # no batch normalisation is trained yet
    assert losses[0][1] == pytest.approx(losses[1][1], abs=0.3)
    store = runs[0].store
    assert len(store.client.search_runs(store.experiment_ids())) == 2, "two processes log one run"
    predicted = read_predictions(runs[0], "test")["image_id"]
    manifest = pd.read_parquet(download_artifact(runs[0], "split/manifest.parquet"))
    assert sorted(predicted) == sorted(manifest.loc[manifest["split"] == "test", "image_id"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_metadata_and_masks_train(tiny_job):
    for options in (
        ("backbone.metadata=concat", "dataset.mask=channel"),
        (
            "backbone.metadata=metablock",
            "dataset.mask=background",
            "task.target=malignant",
            "loss=binary_cross_entropy",
        ),
        ("dataset.mask=crop", "loss=ldam", "sampler=class_balanced_batches", "optimizer=sgd", "scheduler=plateau"),
    ):
        job = tiny_job(*options, "trainer.max_epochs=1", "test=false")
        result = train(job)
        assert "best/val/balanced_accuracy" in result.metrics
        assert not any(name.startswith("test/") for name in result.metrics)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_pictures_of_patients_stay_out_of_the_store_on_request(tiny_job):
    job = tiny_job("tracking.log_images=false", "trainer.max_epochs=1")
    assert "dataset/batch.png" not in artifacts_of(run_of(job, train(job).run_id))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_leaking_split_is_refused_and_tagged_when_allowed(tiny_job):
    with pytest.raises(LeakageError, match=r"split\.allow_leakage=true"):
        train(tiny_job("split=by_image"))
    job = tiny_job("split=by_image", "split.allow_leakage=true", "trainer.max_epochs=1", *QUIET)
    run_id = train(job).run_id
    assert run_of(job, run_id).store.client.get_run(run_id).data.tags["leaky"] == "true"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_failure_in_training_is_recorded(tiny_job, tmp_path, monkeypatch):
    job = tiny_job(root=tmp_path)

    def broken(*_, **__):
        raise RuntimeError("the network broke")

    monkeypatch.setattr("lesion_exp.task.LesionClassifier.training_step", broken)
    with pytest.raises(RuntimeError, match="the network broke") as raised:
        train(job)
    assert "its log is" in raised.value.__notes__[0]
    store = job.project.store
    (run,) = store.client.search_runs(store.experiment_ids())
    assert run.info.status == "FAILED"
    assert "the network broke" in run.data.tags["error"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (("dataset.num_corrupt=2",), DataError, "on_bad_image=skip"),
        (("dataset.num_missing=2",), DataError, "no image file"),
        (("dataset.num_unknown_labels=2",), DataError, "unknown label"),
        (("dataset.num_doubled_ids=2",), DataError, "doubled image_id"),
        (('dataset.filter="agee > 3"',), ConfigError, "age"),
        (('dataset.filter="age > 300"',), DataError, "none of [0-9]+ is left"),
        (("dataset.filter=\"label == 'nv'\"",), DataError, "two classes"),
        (("loss=binary_cross_entropy",), ConfigError, "two classes|malignant"),
        (("+optimizer.momentun=1",), ConfigError, "momentun"),
        (("+trainer.max_epoch=1",), ConfigError, "max_epochs"),
        (("dataset.view=clinical",), ConfigError, "clinical"),
        (("split=official",), DataError, "published parts"),
        (("split.ratios.test=0.5",), ConfigError, "add up to 1"),
        (("split=kfold", "split.fold=9"), ConfigError, "0 to 4"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_remedy(tiny_job, options, error, says):
    with pytest.raises(error, match=says):
        train(tiny_job(*options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("trainer.check_val_every_n_epoch=3",), "validated at least once"),
        (("trainer.early_stopping.patience=1", "trainer.early_stopping.monitor=val_loss"), "did you mean 'val/loss'"),
        (("loader.batch_size=1", "backbone=resnet18"), "at least 2 images a step"),
        (("trainer.precision=32-bits",), "Precision '32-bits' is invalid"),
        (("trainer.strategy=dpp",), "dpp"),
        (("trainer.devices=0",), "devices"),
        (("optimizer.betas=[2,3]",), "beta"),
        (("loss=focal", "loss.gamma=null"), r"a value for loss\.gamma, got null"),
    ],
)
def test_a_mistake_that_can_be_seen_beforehand_leaves_no_run(tiny_job, tmp_path, options, says):
    job = tiny_job(*options, root=tmp_path)
    with pytest.raises(ConfigError, match=says):
        train(job)
    store = job.project.store
    assert not store.client.search_runs(store.experiment_ids())


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_finders_values_are_trained_with_and_logged(tiny_job):
    job = tiny_job("trainer.find_batch_size=true", "trainer.find_lr=true", "trainer.max_epochs=30", *QUIET)
    run = run_of(job, train(job).run_id)
    known = run.store.client.get_run(run.run_id)
    assert int(float(known.data.params["found.batch_size"])) == 64  # the training part has fewer than 128 images
    lrs = [metric.value for metric in run.store.client.get_metric_history(run.run_id, "train/lr")]
    assert max(lrs) == pytest.approx(float(known.data.params["found.lr"]), rel=0.2)
    assert float(known.data.params["found.lr"]) != pytest.approx(job.config["optimizer"]["lr"])
    losses = run.store.client.get_metric_history(run.run_id, "train/loss")
    assert len(losses) == 30  # the finders' own steps are not logged


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_bad_images_can_be_left_out_and_are_listed(tiny_job):
    faults = ("num_corrupt", "num_missing", "num_unknown_labels", "num_doubled_ids")
    planted = [f"dataset.{fault}=2" for fault in faults]
    job = tiny_job(*planted, "dataset.on_bad_image=skip", "trainer.max_epochs=1", "test=false")
    run = run_of(job, train(job).run_id)
    flow = download_artifact(run, "dataset/flow.json").read_text()
    for reason in ("cannot be decoded", "no image file", "unknown label", "doubled image_id"):
        assert reason in flow


def test_whoever_waits_is_told_what_is_being_done(tiny_job, tmp_path, monkeypatch):
    class StopHereError(Exception):
        pass

    waiting_for = {}

    def noting(place, then):
        def noted(*given, **named):
            waiting_for[place] = [stage.progress_line().partition(":")[0] for stage in _board._stages]
            return then(*given, **named)

        return noted

    def stop(*_):
        raise StopHereError

    for place, then in (("training.data.open_or_build", open_or_build), ("training.run.check_training", check_training),
                        ("training.run.tune", stop)):  # fmt: skip
        monkeypatch.setattr(f"lesion_exp.{place}", noting(place.rpartition(".")[2], then))
    with pytest.raises(StopHereError), Stage("working on the run", background=True):
        train(tiny_job(*QUIET, root=tmp_path))
    assert waiting_for == {
        "open_or_build": ["working on the run", "reading the data", "opening or building the image store"],
        "check_training": ["working on the run", "checking what the run begins with"],
        "tune": ["working on the run", "training"],
    }
