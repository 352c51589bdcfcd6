"""A student learns from the probabilities of a run, kept or computed in each step, and from the split of that run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lesion_exp.config.freeze import read_job
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.data.lesion_dataset import collate_samples
from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.model.restore import restore
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.lineage import lineage
from lesion_exp.training.run import train
from lesion_exp.training.teacher import Teacher, _check_views, _images, _key, attach_teacher, open_teacher
from lesion_exp.training.trainer import build_trainer
from lesion_exp.verbs.resume import resume
from tests.killed import killed
from tests.pictures import without_pictures

pytestmark = pytest.mark.usefixtures("no_pictures")

QUIET = ("tracking.log_images=false", "tracking.log_model=false", "test=false")
ONE_EPOCH = ("trainer.max_epochs=1", *QUIET)


@pytest.fixture(scope="module")
def taught(tiny_job, tmp_path_factory):
    """Makes jobs in a project that has a teacher; `taught.id` is its run's."""
    root = tmp_path_factory.mktemp("taught")
    with without_pictures():
        run_id = train(tiny_job("trainer.max_epochs=1", "tracking.log_images=false", root=root)).run_id

    def make(*overrides, teacher=run_id):
        return tiny_job("loss=distill", f"loss.teacher={teacher}", *ONE_EPOCH, *overrides, root=root)

    make.id, make.root, make.plain = run_id, root, lambda *given: tiny_job(*ONE_EPOCH, *given, root=root)
    return make


def prepared(job):
    split = split_data(job.config, load_data(job.config))
    teacher = open_teacher(job.config, split.classes)
    built = build(job.config, split)
    trainer = build_trainer(job.config["trainer"], False, job.project.live, [])
    attach_teacher(teacher, job.config, split, built, trainer)
    return split, teacher, built


def hash_of(job, run_id):
    return find_run(job.project.store, run_id).tags["weights_hash"]


def test_a_job_names_the_run_and_its_weights_and_not_the_words_that_meant_it(taught, tmp_path):
    job = taught(teacher="latest")
    assert job.config["loss"]["teacher"] == taught.id
    assert job.config["loss"]["teacher_weights"] == hash_of(job, taught.id)
    assert f"loss.teacher={taught.id}" in job.overrides
    job.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml").job_hash == job.job_hash == taught(teacher=taught.id[:8]).job_hash
    assert job.job_hash != taught("loss.temperature=2").job_hash


def test_a_teacher_that_is_not_there_or_has_not_finished_is_refused_when_the_job_is_composed(taught, tmp_path):
    with pytest.raises(ConfigError, match=r"loss\.teacher=0123abcd: expected a run id"):
        taught(teacher="0123abcd")
    bundle = tmp_path / "run.zip"
    bundle.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"expected a run of the store for loss\.teacher, got a bundle"):
        taught(teacher=str(bundle))
    with pytest.raises(ConfigError, match=r"expected the weights \w+ of run"):
        taught("loss.teacher_weights=0000000000000000", teacher="latest")


def test_kept_probabilities_are_those_of_the_teachers_own_predictor(taught):
    split, _, built = prepared(taught())
    rows = built.datamodule.parts["train"]
    run = find_run(taught().project.store, taught.id)
    restored = restore(taught.plain("test=true").config, download_artifact(run, "checkpoints/best.ckpt"))
    expected = restored.predict(rows, split.loaded.store)
    columns = [f"p_{name}" for name in split.classes]
    found = built.datamodule.soft_targets
    assert found.shape == (len(rows), len(split.classes))
    np.testing.assert_allclose(found.exp().numpy(), expected[columns].to_numpy(), atol=1e-6)
    dataset = built.datamodule.dataset("train", training=True)
    batch = collate_samples([dataset[(0, position)] for position in (3, 0, 5)])
    torch.testing.assert_close(batch["teacher"], found[batch["index"]], rtol=0, atol=0)
    assert "teacher" not in built.datamodule.dataset("val")[(0, 0)]


def test_kept_probabilities_of_own_code_belong_to_that_code(taught, tmp_path, monkeypatch):
    split, teacher, _ = prepared(taught())
    (member,) = teacher.members
    images = _images(member, split.table, split.loaded.store)
    config = member.restored.config
    own = {**config, "backbone": {**config["backbone"], "_target_": "teacher_of_the_test.network"}}
    of_own = replace(member, restored=replace(member.restored, config=own))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "teacher_of_the_test")
    keys = []
    for text in ("factor = 1\n", "factor = 2\n"):
        (tmp_path / "teacher_of_the_test.py").write_text(text)
        keys.append([_key(each, images, torch.device("cpu")) for each in (member, of_own)])
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_classes_are_matched_by_name_and_others_are_refused(taught):
    split = split_data(taught().config, load_data(taught().config))
    swapped = open_teacher(taught().config, split.classes[::-1])
    assert swapped.order == tuple(range(len(split.classes)))[::-1]
    logs = torch.randn(3, len(split.classes)).log_softmax(1)
    shares = torch.ones(3, 1)
    torch.testing.assert_close(swapped.combined([logs], shares), logs.flip(1))
    with pytest.raises(ConfigError, match="teacher of the student's classes, mel, nv, got"):
        open_teacher(taught().config, ("mel", "nv"))


def test_an_ensembles_probabilities_are_the_mean_and_a_folds_own_images_are_its_alone(taught):
    _, teacher, built = prepared(taught())
    (member,) = teacher.members
    first = Teacher(teacher.run, (member, member), teacher.order, None, by_fold=False)
    rows = built.datamodule.parts["train"].head(3)
    one, other = (torch.randn(3, len(teacher.order)).log_softmax(1) for _ in range(2))
    mean = (one.exp() + other.exp()) / 2
    torch.testing.assert_close(first.combined([one, other], first.shares(rows)).exp(), mean)
    tested = [frozenset(rows["image_id"].iloc[[0]]), frozenset(rows["image_id"].iloc[[1]])]
    folds = tuple(type(member)(member.run, member.restored, member.weights, names) for names in tested)
    pooled = Teacher(teacher.run, folds, teacher.order, None, by_fold=True)
    found = pooled.combined([one, other], pooled.shares(rows)).exp()
    torch.testing.assert_close(found, torch.stack([one[0].exp(), other[1].exp(), mean[2]]))


def test_a_calibration_is_applied_only_if_it_is_said(taught):
    _, _, plain = prepared(taught())
    _, _, built = prepared(taught("loss.calibration=temperature"))
    run = find_run(taught().project.store, taught.id)
    calibrator = read_calibrator(json.loads(run.fetch("calibration/temperature.json").read_text()))
    expected = calibrator.apply(plain.datamodule.soft_targets.double().exp().numpy())
    np.testing.assert_allclose(built.datamodule.soft_targets.exp().numpy(), expected, atol=1e-6)
    assert np.abs(expected - plain.datamodule.soft_targets.exp().numpy()).max() > 1e-4
    with pytest.raises(ConfigError, match=r"got loss\.calibration=nothing"):
        prepared(taught("loss.calibration=nothing"))


def test_the_same_view_is_what_the_student_sees_in_the_teachers_colours(taught):
    """Without augmentation, and with the teacher's own size, both views give the same probabilities."""
    plain = ("augmentation=none", "augmentation.mean=[0.3,0.4,0.5]", "augmentation.std=[0.2,0.2,0.3]")
    _, _, fixed = prepared(taught(*plain))
    _, _, same = prepared(taught(*plain, "loss.views=same"))
    assert same.datamodule.soft_targets is None
    dataset = same.datamodule.dataset("train", training=True)
    batch = collate_samples([dataset[(0, position)] for position in range(8)])
    teacher = same.classifier.teacher
    expected = fixed.datamodule.soft_targets[:8]
    torch.testing.assert_close(teacher(batch, same.classifier).exp(), expected.exp(), rtol=1e-4, atol=1e-5)
    normalised = batch | {"image": same.classifier.normalize(batch["image"])}
    torch.testing.assert_close(teacher(normalised, same.classifier).exp(), expected.exp(), rtol=1e-3, atol=1e-4)
    assert not any("teacher" in name for name in same.classifier.state_dict())


@pytest.mark.slow
def test_kept_and_recomputed_probabilities_give_the_same_weights(taught):
    job = taught()
    folder = taught.root / "data_cache" / "teachers"
    shutil.rmtree(folder, ignore_errors=True)
    computed = hash_of(job, train(job).run_id)
    kept = list(folder.glob("*/features.bin"))
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    assert hash_of(job, train(job).run_id) == computed
    assert kept[0].stat().st_mtime_ns == stamp, "the second run finds them"
    without = taught.plain()
    assert hash_of(without, train(without).run_id) != computed


@pytest.mark.slow
@pytest.mark.parametrize("views", ["fixed", "same"])
def test_a_run_that_stopped_goes_on_to_the_weights_of_one_that_did_not(taught, monkeypatch, views):
    job = taught(f"loss.views={views}", "augmentation/mix=mixup", "trainer.max_epochs=2")
    whole = hash_of(job, train(job).run_id)
    original, calls = LesionClassifier.training_step, []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError
        return original(self, *arguments)

    monkeypatch.setattr(LesionClassifier, "training_step", stopping)
    with pytest.raises(RuntimeError):
        train(job)
    stopped = find_run(job.project.store, "latest")
    assert stopped.status == "FAILED"
    resume(stopped, job.project)
    assert hash_of(job, stopped.run_id) == whole


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("views", ["fixed", "same"])
def test_a_killed_process_leaves_a_student_that_goes_on_to_the_same_weights(taught, views):
    job = taught(
        f"loss.views={views}", "augmentation/mix=mixup", "trainer.max_epochs=15", "loader.batch_size=16",
        "trainer.checkpoint_every_steps=1",
    )  # fmt: skip
    stopped = killed(job, taught.root)
    resume(stopped, job.project)
    assert hash_of(job, stopped.run_id) == hash_of(job, train(job).run_id)


@pytest.mark.slow
@pytest.mark.parametrize("views", ["fixed", pytest.param("same", marks=pytest.mark.long)])
def test_two_processes_learn_from_the_teacher_what_one_learns(taught, views):
    plain = (f"loss.views={views}", "augmentation=light", "backbone.tune=head", "optimizer.lr=0.01")
    together = taught(*plain, "loader.batch_size=8", "trainer=ddp_cpu", "trainer.devices=2")
    alone = taught(*plain, "loader.batch_size=16")
    runs = [find_run(job.project.store, train(job).run_id) for job in (together, alone)]
    assert 0 < runs[0].metrics["train/loss"] == pytest.approx(runs[1].metrics["train/loss"], abs=1e-5)
    assert runs[0].metrics["val/loss"] == pytest.approx(runs[1].metrics["val/loss"], abs=1e-5)


def test_a_teacher_that_was_trained_on_what_the_student_evaluates_is_refused_or_marked(taught):
    leaking = taught("split.seed=5")
    with pytest.raises(LeakageError, match="images of validation or test that the teacher was trained on"):
        train(leaking)
    run = find_run(leaking.project.store, train(taught("split.seed=5", "split.allow_leakage=true")).run_id)
    assert run.tags["leaky"] == "true"
    audit = json.loads(run.fetch("split/audit.json").read_text())
    assert not audit["passed"]
    manifests = [
        pd.read_parquet(download_artifact(each, "split/manifest.parquet"))
        for each in (run, find_run(leaking.project.store, taught.id))
    ]
    evaluated = set(manifests[0].query("split != 'train'")["image_id"])
    lesions = set(manifests[1].query("split == 'train'")["lesion_id"])
    shown = set(manifests[0][manifests[0]["lesion_id"].isin(lesions)]["image_id"]) & evaluated
    assert audit["crossings"]["seen_by_teacher"]["count"] == len(shown) > 0


def test_a_teacher_whose_file_was_changed_is_refused_before_a_run_begins(taught, monkeypatch):
    job = taught()
    monkeypatch.setattr("lesion_exp.training.teacher.state_hash", lambda _: "0" * 16)
    before = len(list(job.project.store.client.search_runs(job.project.store.experiment_ids())))
    with pytest.raises(DataError, match="the file was changed"):
        train(job)
    assert len(list(job.project.store.client.search_runs(job.project.store.experiment_ids()))) == before


def test_what_a_distilled_run_keeps_names_its_teacher(taught):
    job = taught("test=true")
    run = find_run(job.project.store, train(job).run_id)
    assert run.params["loss.teacher"] == taught.id
    card = torch.load(run.fetch("checkpoints/best.ckpt"), weights_only=True)["lesion_exp"]
    assert card["teacher"] == {
        "run_id": taught.id, "weights": job.config["loss"]["teacher_weights"], "temperature": 4.0
    }  # fmt: skip
    assert len(read_predictions(run, "test"))
    seen = pd.read_parquet(run.fetch("split/seen_before.parquet"))
    trained = pd.read_parquet(run.fetch("split/manifest.parquet")).query("split == 'train'")
    assert set(seen[seen["use"] == "labels"]["image_id"]) == set(trained["image_id"])
    assert set(seen["run_id"]) == {taught.id}
    behind, unknown = lineage(run.store, [run.run_id, "0" * 32])
    assert ({one.run_id for one in behind}, unknown) == ({run.run_id, taught.id}, ["0" * 32])


def test_a_teacher_of_photographs_of_another_kind_is_refused_where_others_can_be_chosen(caplog):
    def check(own, student):
        nodes = [
            {"name": name, "_target_": f"lesion_exp.dataset.{name}.read_{name}", "view": view, "mask": "none",
             "mask_margin": 0.1}
            for name, view in (own, student)
        ]  # fmt: skip
        restored = SimpleNamespace(config={"dataset": nodes[0]}, encoder=None)
        member = SimpleNamespace(restored=restored, run=SimpleNamespace(run_id="r"))
        _check_views(member, {"dataset": nodes[1], "loss": {"views": "same"}})

    pad = ("pad_ufes_20", "dermoscopic")
    for right in (("milk10k", "clinical"), ("ddi", "dermoscopic"), ("csv", "dermoscopic")):
        check(pad, right)
        check(right, pad)
    said = r"view=dermoscopic, which shows clinical ones; set dataset\.view=clinical, or name another teacher"
    with pytest.raises(ConfigError, match=said):
        check(pad, ("milk10k", "dermoscopic"))
    check(pad, ("ham10000", "dermoscopic"))
    assert "photographs of another kind (clinical) than the student sees (dermoscopic)" in caplog.text
    with pytest.raises(ConfigError, match=r"view=both; set dataset\.view=both, or"):
        check(("milk10k", "both"), ("milk10k", "dermoscopic"))
