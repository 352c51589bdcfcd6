"""A linear probe is a run like any other: artifacts, checkpoint, chosen strength, resumed and repeated alike."""

from __future__ import annotations

import pytest
import torch

from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import read_checkpoint, state_hash
from lesion_exp.model.logistic_probe import ITERATIONS, STRENGTH, LogisticProbe
from lesion_exp.model.restore import restore
from lesion_exp.optimizer.logistic_path import LogisticPath
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_history, read_predictions
from lesion_exp.training.run import train
from lesion_exp.verbs.resume import resume

pytestmark = pytest.mark.usefixtures("no_pictures")

PROBE = (
    "experiment=probe",
    "dataset=synthetic",
    "dataset.num_lesions=90",
    "dataset.image_height=48",
    "dataset.image_width=64",
    "backbone=small_cnn",
    "backbone.weights=none",
    "image_size=32",
    "trainer=cpu",
    "trainer.max_epochs=4",
    "trainer.precision=32-true",
    "loader.num_workers=0",
    "evaluation.bootstrap_draws=100",
    "print_config=false",
)


@pytest.fixture(scope="module")
def probe_job(tmp_path_factory):
    from lesion_exp.config.compose import compose
    from lesion_exp.config.freeze import freeze

    root = tmp_path_factory.mktemp("probe")
    return lambda *overrides: freeze(compose([*PROBE, *overrides], root=root))


@pytest.mark.slow
def test_a_probe_keeps_its_path_and_an_ordinary_network(probe_job):
    job = probe_job()
    result = train(job)
    run = find_run(job.project.store, result.run_id)
    history = read_history(run, [STRENGTH, ITERATIONS, "val/balanced_accuracy"])
    strengths = [point.value for point in history[STRENGTH]]
    path = LogisticPath([torch.nn.Parameter(torch.zeros(1))], 10.0, 1e-3)
    assert strengths == pytest.approx([path.strength(step, 4) for step in range(len(strengths))])
    assert all(point.value >= 1 for point in history[ITERATIONS])
    scores = [point.value for point in history["val/balanced_accuracy"]]
    best = scores.index(max(scores))
    assert float(run.params["found.strength"]) == pytest.approx(strengths[best], rel=1e-4)
    assert result.metrics["best/val/balanced_accuracy"] == pytest.approx(scores[best])
    checkpoint = download_artifact(run, "checkpoints/best.ckpt")
    assert run.tags["weights_hash"] == state_hash(read_checkpoint(checkpoint)["state_dict"])
    restored = restore(job.config, checkpoint)
    assert type(restored.classifier.backbone.head).__name__ == "Float32Linear"
    table = read_predictions(run, "test")
    assert len(table) == 19
    again = find_run(job.project.store, train(job).run_id)
    assert again.tags["weights_hash"] == run.tags["weights_hash"]


@pytest.mark.slow
def test_a_probe_that_was_stopped_goes_on_to_the_same_weights(probe_job, monkeypatch):
    job = probe_job("trainer.early_stopping.patience=null", "test=false", "tags.which=stopped")
    whole = find_run(job.project.store, train(job).run_id)
    real = LogisticProbe.training_step

    def dying(self, batch, batch_idx):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    monkeypatch.setattr(LogisticProbe, "training_step", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(job)
    monkeypatch.setattr(LogisticProbe, "training_step", real)
    stopped = find_run(job.project.store, "latest")
    assert stopped.run_id != whole.run_id
    resume(stopped, job.project)
    resumed = find_run(job.project.store, stopped.run_id)
    assert resumed.tags["weights_hash"] == whole.tags["weights_hash"]
    assert resumed.params["found.strength"] == whole.params["found.strength"]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("augmentation=light", "augmentation=none"),
        ("augmentation.views=flips8", r"augmentation\.views=null"),
        ("backbone.tune=full", r"backbone\.tune=head"),
        ("backbone.metadata=concat", r"backbone\.metadata=none"),
        ("backbone.dropout=0.1", r"backbone\.dropout=0"),
        ("loss=focal", "loss=cross_entropy"),
        ("loss.label_smoothing=0.1", r"loss\.label_smoothing=0"),
        ("trainer.ema_decay=0.9", r"trainer\.ema_decay=null"),
        ("trainer.gradient_clip_val=1.0", r"trainer\.gradient_clip_val=null"),
        ("trainer.accumulate_grad_batches=2", r"trainer\.accumulate_grad_batches=1"),
        ("sampler=weighted", "sampler=shuffle"),
        ("sampler=oversample", "sampler=shuffle"),
    ],
)
def test_what_is_no_logistic_regression_is_refused_before_a_run_is_opened(probe_job, override, text):
    more = ["~loss.class_weights"] if override == "loss=focal" else []
    job = probe_job(override, *more)
    with pytest.raises(ConfigError, match=rf"logistic regression.*{text}.*optimizer=adamw"):
        train(job)
