"""Pretraining without labels is a job like any other: resumed bit for bit, and known to the runs that start from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import Job, freeze, read_job
from lesion_exp.data.views import LABELLED
from lesion_exp.dataset.table import UNLABELLED
from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.pretraining_task import PretrainingTask
from lesion_exp.process.other_programs import OtherPrograms
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run, read_history
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training import pretraining
from lesion_exp.training.build import build
from lesion_exp.training.build_pretraining import build_pretraining
from lesion_exp.training.check_pretraining import check_pretraining, check_pretraining_keys
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import check_job, train
from lesion_exp.training.seen_before import seen_by
from lesion_exp.training.teacher import open_teacher
from lesion_exp.verbs.report.run_report import run_page
from lesion_exp.verbs.resume import extend, resume
from tests.killed import killed
from tests.pictures import without_pictures
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("no_pictures")

pytest.importorskip("lightly")

METHODS = {
    "simclr": ("pretrain.hidden_dim=16", "pretrain.output_dim=8"),
    "vicreg": ("pretrain.hidden_dim=16", "pretrain.output_dim=8"),
    "byol": ("pretrain.hidden_dim=16", "pretrain.output_dim=8"),
    "dino": ("pretrain.hidden_dim=16", "pretrain.output_dim=16"),
    "mae": ("pretrain.decoder_dim=16", "pretrain.decoder_depth=1", "pretrain.decoder_heads=2"),
}
VIT = ("backbone=timm", "backbone.name=test_vit", "image_size=64")
DATA = (
    *("dataset=synthetic", "augmentation=light", "backbone=small_cnn", "backbone.width=8"),
    *(text for text in TINY if not text.startswith(("experiment", "evaluation"))),
    *("loader.batch_size=16", "tracking.log_images=false", "tracking.log_model=false"),
)
"""Without the classifier's keys of `TINY`."""


def job_of(root: Path, *overrides: str, method: str | None = "simclr") -> Job:
    chosen = () if method is None else (f"pretrain={method}", *METHODS[method], "pretrain.probe_every=2")
    plain, network = DATA, ()
    if method == "mae":
        plain, network = tuple(text for text in DATA if not text.startswith("backbone")), VIT
    return freeze(compose([*plain, *chosen, *network, *overrides], root=root))


def trained(job: Job) -> Run:
    return find_run(job.project.store, train(job).run_id)


def split_of(job: Job):
    return split_data(job.config, load_data(job.config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module")
def pretrained(root) -> Run:
    """A pretraining on the training part."""
    with without_pictures():
        return trained(job_of(root, "tracking.log_model=true"))


def test_a_pretraining_keeps_its_body_alone_and_says_how_good_its_neighbours_are(pretrained):
    assert pretrained.status == "FINISHED"
    assert pretrained.tags["kind"] == "pretrain"
    assert pretrained.tags["pretraining"] == pretrained.tags["loss"] == "simclr"
    assert 0 <= pretrained.metrics["best/val/knn_balanced_accuracy"] <= 1
    assert "val/balanced_accuracy" not in pretrained.metrics
    content = read_checkpoint(pretrained.fetch(artifacts.checkpoint()))
    assert all(name.startswith("backbone.body.") for name in content["state_dict"])
    assert content["lesion_exp"]["run_id"] == pretrained.run_id
    assert pretrained.fetch("checkpoints/best.safetensors") is not None
    seen = seen_by(pretrained)
    manifest = pd.read_parquet(pretrained.fetch(artifacts.MANIFEST))
    for use, part in (("images", "train"), ("probed", "val")):
        assert set(seen.loc[seen["use"] == use, "image_id"]) == set(manifest.loc[manifest["split"] == part, "image_id"])
    assert set(seen["use"]) == {"images", "probed"}


def test_a_run_starts_from_the_very_tensors_of_a_pretraining(pretrained, root):
    job = job_of(root, f"backbone.weights=run:{pretrained.run_id[:8]}", method=None)
    assert job.config["backbone"]["weights_run"] == pretrained.run_id
    assert f"backbone.weights=run:{pretrained.run_id}" in job.overrides
    built = build(job.config, split_of(job)).classifier
    wanted = read_checkpoint(pretrained.fetch(artifacts.checkpoint()))["state_dict"]
    found = built.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    image = torch.rand(1, 3, 32, 32)
    source = build_pretraining(job_of(root).config, split_of(job_of(root))).task
    source.load_state_dict(wanted, strict=False)
    assert torch.equal(source.eval().encoder()(image), built.eval().backbone.encode(image))


def test_the_job_of_a_run_that_starts_from_another_is_the_same_job_by_the_file(pretrained, root, tmp_path):
    by_run = job_of(root, "backbone.weights=run:latest", method=None)
    by_file = job_of(root, f"backbone.weights={pretrained.fetch(artifacts.checkpoint())}", method=None)
    assert by_run.job_hash == by_file.job_hash
    by_run.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml").config["backbone"]["weights_run"] == pretrained.run_id


def test_a_run_that_does_not_exist_is_refused(pretrained, root):
    with pytest.raises(ConfigError, match="expected a run id"):
        job_of(root, "backbone.weights=run:0123456789", method=None)


def test_a_pretraining_is_no_teacher(pretrained, root):
    says = r"trained a classifier, for loss\.teacher, got .*, a pretraining by simclr"
    with pytest.raises(ConfigError, match=says):
        job_of(root, "loss=distill", "loss.teacher=latest", method=None)
    loss = {"teacher": pretrained.run_id, "teacher_weights": pretrained.tags["weights_hash"]}
    with pytest.raises(ConfigError, match=says):
        open_teacher({**job_of(root, method=None).config, "loss": loss}, ("mel", "nv"))


@pytest.mark.parametrize("verb", ["network", "predictor", "predictions", "weights"])
def test_what_needs_a_classifier_says_what_to_do(pretrained, root, verb):
    opened = trained_run(pretrained, job_of(root).project)
    with pytest.raises(
        ConfigError, match=f"without labels; train a classifier .*backbone.weights=run:{pretrained.run_id}"
    ):
        getattr(opened, verb)()
    with pytest.raises(ConfigError, match=r"for a report, .* without labels; train a classifier"):
        run_page(pretrained)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_a_killed_one_ends_with_the_weights_of_one_that_was_not(method, tmp_path, monkeypatch):
    job = job_of(tmp_path, method=method)
    whole = trained(job)
    real = PretrainingTask.training_step

    def dying(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 1:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    monkeypatch.setattr(PretrainingTask, "training_step", dying)
    again = job_of(tmp_path, "tags.which=stopped", "trainer.checkpoint_every_steps=1", method=method)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(again)
    monkeypatch.setattr(PretrainingTask, "training_step", real)
    stopped = find_run(job.project.store, "latest")
    assert stopped.status == "KILLED"
    resume(stopped, job.project)
    resumed = find_run(job.project.store, stopped.run_id)
    assert resumed.status == "FINISHED"
    assert resumed.tags["weights_hash"] == whole.tags["weights_hash"]
    assert resumed.metrics["train/loss"] == whole.metrics["train/loss"]


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_process_leaves_a_pretraining_that_goes_on_to_the_same_weights(tmp_path):
    job = job_of(tmp_path, "trainer.max_epochs=15", "trainer.checkpoint_every_steps=1")
    stopped = killed(job, tmp_path)
    resume(stopped, job.project)
    resumed = find_run(job.project.store, stopped.run_id)
    assert resumed.status == "FINISHED"
    assert resumed.tags["weights_hash"] == trained(job).tags["weights_hash"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["simclr", *(pytest.param(name, marks=pytest.mark.long) for name in ("mae", "byol", "vicreg", "dino"))]
)
def test_two_processes_pretrain_one_run_and_probe_every_image_once(method, tmp_path, monkeypatch):
    job = job_of(
        tmp_path, "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=2", "loader.batch_size=8",
        "dataset.num_lesions=99", "trainer.precision=32-true", "optimizer.lr=0.01", method=method,
    )  # fmt: skip
    run = trained(job)
    assert len(run.store.client.search_runs(run.store.experiment_ids())) == 1
    losses = [point.value for point in read_history(run, {"train/loss"})["train/loss"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    built, logged = build_pretraining(job.config, split_of(job)), {}
    data, task = built.datamodule, built.task.eval()
    assert len(data.parts["val"]) % 2, "or no image would be doubled where processes get as many"
    task.load_state_dict(read_checkpoint(run.fetch(artifacts.checkpoint("last")))["state_dict"])
    monkeypatch.setattr(task, "log_dict", lambda values, **_: logged.update(values))
    monkeypatch.setattr(data, "_ranks", lambda: (0, 1))
    task.on_validation_epoch_start()
    with torch.no_grad():
        for place, loader in enumerate(data.val_dataloader()):
            for number, batch in enumerate(loader):
                task.validation_step(batch, number, place)
    assert [sum(len(found[1]) for found in part) for part in task._probed] == [
        len(data.parts[part]) for part in (LABELLED, "val")
    ]
    task.on_validation_epoch_end()
    assert logged == {name: pytest.approx(run.metrics[name]) for name in logged}
    assert 0 < logged["val/knn_accuracy"] < 1


@pytest.mark.slow
def test_a_longer_pretraining_is_the_one_of_that_length(tmp_path):
    plain = ("scheduler=constant", "trainer.early_stopping.patience=null")
    job = job_of(tmp_path, *plain)
    short, long = trained(job), trained(job_of(tmp_path, *plain, "trainer.max_epochs=4"))
    extended = find_run(job.project.store, extend(short, {"trainer.max_epochs": 4}, job.project).run_id)
    assert extended.metrics["train/loss"] == long.metrics["train/loss"]
    assert extended.tags["weights_hash"] == long.tags["weights_hash"]
    momentum = trained(job_of(tmp_path, *plain, method="byol"))
    with pytest.raises(ConfigError, match="momentum of pretrain=byol rises over the whole length"):
        extend(momentum, {"trainer.max_epochs": 4}, job.project)


def test_the_weights_of_dino_are_those_of_its_teacher(root):
    task = build_pretraining(job_of(root, method="dino").config, split_of(job_of(root))).task
    assert task.encoder() is task.method.teacher
    from lesion_exp.training.pretraining import _encoder_of

    with torch.no_grad():
        for weights in task.method.teacher.parameters():
            weights.add_(1.0)
    content = {"state_dict": task.state_dict(), "epoch": 0, "global_step": 0, "lesion_exp": {}}
    kept = _encoder_of(content)["state_dict"]
    teacher = task.method.teacher.state_dict()
    assert set(kept) == {f"backbone.body.{name}" for name in teacher}
    assert all(torch.equal(kept[f"backbone.body.{name}"], tensor) for name, tensor in teacher.items())
    assert _encoder_of(_encoder_of(content))["state_dict"].keys() == kept.keys()


@pytest.mark.slow
def test_several_processes_probe_the_same_images_as_one(tmp_path):
    """With weights that hardly move, all differences would come from the images that the processes exchange."""
    still = ("optimizer.lr=1e-12", "trainer.max_epochs=1", "pretrain.probe_neighbours=3")
    several = ("trainer=ddp_cpu", "trainer.devices=2", "loader.batch_size=8")
    one, two = (trained(job_of(tmp_path, *still, *given, method="mae")) for given in ((), several))
    assert two.status == "FINISHED"
    for name in ("val/knn_accuracy", "val/knn_balanced_accuracy"):
        assert two.metrics[name] == one.metrics[name] > 0
    assert two.fetch(artifacts.checkpoint()) is not None


def test_views_differ_from_one_another_and_follow_from_seed_epoch_image_and_view(root):
    job = job_of(root)
    data = build_pretraining(job.config, split_of(job)).datamodule
    images = data.dataset("train", training=True)
    first, second = images[(3, 5, 0)]["image"], images[(3, 5, 1)]["image"]
    assert not torch.equal(first, second)
    assert torch.equal(first, images[(3, 5, 0)]["image"])
    assert torch.equal(second, images[(3, 5, 1)]["image"])
    assert not torch.equal(second, images[(4, 5, 1)]["image"])
    from lesion_exp.data.views import Views, collate_views

    views = Views(images, 2)
    batch = collate_views([views[(3, 5)], views[(3, 6)], views[(3, 7)]])
    assert batch["image"].shape == (6, 3, 32, 32)
    assert batch["index"].tolist() == [5, 6, 7]
    assert torch.equal(batch["image"][3], second)


@pytest.mark.slow
def test_unlabelled_exposure_is_told_by_every_run_of_the_chain(tmp_path):
    everything = trained(job_of(tmp_path, "pretrain.parts=all"))
    first = trained(job_of(tmp_path, f"backbone.weights=run:{everything.run_id}", method=None))
    second = trained(job_of(tmp_path, f"backbone.weights=run:{first.run_id}", "seed=1", method=None))
    for run in (first, second):
        assert run.tags["leaky"] == "false"
        assert "test images without labels" in run.tags["seen_before"]
        assert any("transductive" in text for text in json.loads(run.fetch(artifacts.AUDIT).read_text())["warnings"])
    told = json.loads(second.fetch(artifacts.SEEN_IN_SPLIT).read_text())
    assert told["runs"] == sorted([everything.run_id, first.run_id])
    assert told["parts"]["test"]["images"] == told["parts"]["test"]["all"] > 0
    assert told["parts"]["val"]["images"] == told["parts"]["val"]["all"]
    assert told["parts"]["val"]["labels"] == told["parts"]["test"]["labels"] == 0


@pytest.mark.slow
def test_weights_that_knew_labels_of_the_test_part_are_refused(root, tmp_path):
    first = trained(job_of(tmp_path, method=None))
    other = ("split.seed=5", f"backbone.weights=run:{first.run_id}")
    with pytest.raises(LeakageError, match=r"test images with their labels.*split.allow_leakage=true"):
        train(job_of(tmp_path, *other, method=None))
    allowed = trained(job_of(tmp_path, *other, "split.allow_leakage=true", method=None))
    assert allowed.tags["leaky"] == "true"


def test_weights_of_the_same_split_have_seen_nothing(pretrained, root):
    run = trained(job_of(root, f"backbone.weights=run:{pretrained.run_id}", "test=false", method=None))
    assert "seen_before" not in run.tags
    told = json.loads(run.fetch(artifacts.SEEN_IN_SPLIT).read_text())
    assert told["parts"]["train"]["images"] == told["parts"]["train"]["all"]
    assert told["parts"]["test"]["images"] == told["parts"]["val"]["images"] == 0


@pytest.mark.slow
def test_the_head_is_left_out_if_the_classes_have_other_names(pretrained, root):
    three, others = (f"dataset.filter=\"label in ['nv','mel','{third}']\"" for third in ("bcc", "df"))
    run = trained(job_of(root, three, method=None))
    weights = f"backbone.weights=run:{run.run_id}"
    same, other = (job_of(root, chosen, weights, method=None) for chosen in (three, others))
    wanted = read_checkpoint(run.fetch(artifacts.checkpoint()))["state_dict"]["backbone.head.weight"]
    assert torch.equal(build(same.config, split_of(same)).classifier.backbone.head.weight, wanted)
    assert not torch.equal(build(other.config, split_of(other)).classifier.backbone.head.weight, wanted)


def table_of(root: Path, folder: Path, labels: object) -> tuple[str, ...]:
    """The generated images as a table of one's own, with these labels."""
    split = split_of(job_of(root))
    rows = split.table.head(60).reset_index(drop=True)
    folder.mkdir()
    table = pd.DataFrame({"image_path": rows["image_path"], "lesion_id": rows["lesion_id"]})
    if labels is not None:
        known = (np.arange(len(rows)) % 3 == 0) | (labels == "all")
        table["label"] = np.where(known, rows["label"], "")
    table.to_csv(folder / "photos.csv", index=False)
    return ("dataset=csv", f"dataset.root={folder}", "dataset.table=photos.csv")


SYNTHETIC_KEYS = ("dataset.num_lesions", "dataset.image_height", "dataset.image_width", "dataset=")


def own_job(root: Path, *overrides: str, method: str | None = "simclr") -> Job:
    plain = [text for text in DATA if not text.startswith(SYNTHETIC_KEYS)]
    chosen = () if method is None else (f"pretrain={method}", *METHODS[method], "pretrain.probe_every=2")
    return freeze(compose([*plain, *chosen, *overrides], root=root))


def test_a_table_without_labels_is_pretrained_on_without_a_probe(root, tmp_path):
    given = (*table_of(root, tmp_path / "own", None), "dataset.columns={label: null}")
    job = own_job(tmp_path, *given)
    split = split_of(job)
    assert set(split.table["label"]) == {UNLABELLED}
    assert any("no image has a label" in text for text in check_pretraining(job.config, split))
    run = trained(job)
    assert not [name for name in run.metrics if "knn" in name]
    assert run.metrics["train/loss"] > 0
    assert run.fetch(artifacts.checkpoint()) is not None
    with pytest.raises(DataError, match="unknown label"):
        split_of(own_job(tmp_path, *given, method=None))
    patient = ("trainer.early_stopping.patience=2", "trainer.early_stopping.monitor=val/knn_accuracy")
    waiting = own_job(tmp_path, *given, *patient)
    with pytest.raises(ConfigError, match=r"set trainer\.early_stopping\.monitor=train/loss"):
        check_pretraining(waiting.config, split)


def test_of_a_table_with_some_labels_all_images_are_seen_and_the_labelled_ones_probed(root, tmp_path):
    job = own_job(tmp_path, *table_of(root, tmp_path / "own", "some"))
    split = split_of(job)
    data = build_pretraining(job.config, split).datamodule
    assert UNLABELLED not in split.classes
    assert len(data.parts["train"]) == (split.table["split"] == "train").sum()
    hidden = split.table["label"] == UNLABELLED
    assert len(data.parts[LABELLED]) == ((split.table["split"] == "train") & ~hidden).sum()
    assert len(data.parts["val"]) == ((split.table["split"] == "val") & ~hidden).sum() > 0


def test_several_sets_at_once_one_without_labels(root, tmp_path):
    labelled, hidden = tmp_path / "labelled", tmp_path / "hidden"
    table_of(root, labelled, "all")
    table_of(root, hidden, None)
    sets = (
        f"{{a: {{set: csv, root: {labelled}, table: photos.csv}}, "
        f"b: {{set: csv, root: {hidden}, table: photos.csv, columns: {{label: null}}}}}}"
    )
    job = own_job(tmp_path, "dataset=combined", f"dataset.sets={sets}")
    split = split_of(job)
    assert split.table["source"].value_counts().to_dict() == {"a": 60, "b": 60}
    assert set(split.table.loc[split.table["source"] == "b", "label"]) == {UNLABELLED}
    assert check_pretraining(job.config, split) == []


def test_parts_beyond_training_are_warned_of(root):
    job = job_of(root, "pretrain.parts=[train,test]")
    split = split_of(job)
    data = build_pretraining(job.config, split).datamodule
    assert len(data.parts["train"]) == split.table["split"].isin(["train", "test"]).sum()
    assert any("images of test, without labels" in text for text in check_pretraining(job.config, split))


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("loss=focal", "loss=focal, which concerns a classifier"),
        ("evaluation.tta=flips8", "evaluation.tta=flips8, which concerns a classifier"),
        ("test=true", "test=true, which concerns"),
        ("backbone.head=mlp", "backbone.head=linear"),
        ("backbone.tune=head", "backbone.tune=full"),
        ("augmentation.mix.mixup_alpha=0.4", "augmentation/mix=none"),
        ("trainer.ema_decay=0.99", "trainer.ema_decay=null"),
        ("trainer.check_val_every_n_epoch=2", "pretrain.probe_every=N"),
        ("trainer.val_check_interval=5", r"set trainer\.val_check_interval=null; pretrain\.probe_every=N"),
    ],
)
def test_options_that_a_pretraining_does_not_read_are_refused(root, override, remedy):
    job = job_of(root, override)
    with pytest.raises(ConfigError, match=remedy):
        check_pretraining_keys(job.config, job.overrides)


def test_a_metric_of_classifiers_cannot_be_watched(root):
    patient = "trainer.early_stopping.patience=2"
    with pytest.raises(ConfigError, match=r"set trainer\.early_stopping\.monitor=val/knn_balanced_accuracy"):
        check_job(job_of(root, patient, "trainer.early_stopping.monitor=val/balanced_accuracy"))
    with pytest.raises(ConfigError, match=r"set trainer\.monitor=val/knn_balanced_accuracy"):
        check_job(job_of(root, "trainer.monitor=val/balanced_accuracy"))
    check_job(job_of(root, patient, "trainer.monitor=val/knn_accuracy"))


def test_a_network_that_the_method_cannot_train_is_refused_before_a_run(root):
    job = freeze(compose([*DATA, "pretrain=mae", *METHODS["mae"]], root=root))
    with pytest.raises(ConfigError, match="expected a vision transformer of timm"):
        check_pretraining(job.config, split_of(job))


def test_programs_that_use_its_cores_are_warned_of(root, monkeypatch):
    told: list[str] = []

    def stop(split, inherited, warnings):
        told.extend(warnings)
        raise KeyboardInterrupt

    monkeypatch.setattr(OtherPrograms, "warning", lambda self, threads: f"others beside {threads} threads")
    monkeypatch.setattr(pretraining, "say_findings", stop)
    with pytest.raises(KeyboardInterrupt):
        train(job_of(root))
    assert f"others beside {torch.get_num_threads()} threads" in told
