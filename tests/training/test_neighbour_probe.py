"""backbone.head=knn in a whole run: features of all training images are remembered, kept and used everywhere."""

from __future__ import annotations

import pytest
import torch

from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.model.restore import restore_file
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_history, read_predictions
from lesion_exp.training.check_training import check_training
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from tests.training.test_probe import probe_job

pytestmark = pytest.mark.usefixtures("no_pictures")

__all__ = ["probe_job"]

KNN = ("backbone.head=knn", "backbone.knn.k=5")


@pytest.mark.slow
def test_a_run_remembers_every_training_image_once(probe_job):
    job = probe_job(*KNN, "tracking.log_model=true")
    run = find_run(job.project.store, train(job).run_id)
    split = split_data(job.config, load_data(job.config))
    counts = split.table["split"].value_counts()
    assert len(read_history(run, ["val/loss"])["val/loss"]) == 1, "one epoch"
    state = read_checkpoint(download_artifact(run, "checkpoints/best.ckpt"))["state_dict"]
    memory, labels = state["backbone.head.memory"], state["backbone.head.memory_labels"]
    assert memory.shape[0] == counts["train"] == int(run.params["found.memory_images"])
    assert memory.float().norm(dim=1).sub(1).abs().max() < 1e-3
    train_labels = split.table.loc[split.table["split"] == "train", "label"].value_counts()
    assert torch.bincount(labels).tolist() == [train_labels[name] for name in split.classes]
    assert 0 < run.metrics["train/loss"] < 10
    restored = restore_file(download_artifact(run, "checkpoints/best.safetensors"))
    kept = read_predictions(run, "test").set_index("image_id")
    columns = [column for column in kept if column.startswith("p_")]
    test_part = split.table[split.table["split"] == "test"]
    found = restored.predict(test_part, split.loaded.store).set_index("image_id").loc[kept.index, columns]
    assert (found - kept[columns]).abs().to_numpy().max() < 1e-5
    again = find_run(job.project.store, train(job).run_id)
    assert again.tags["weights_hash"] == run.tags["weights_hash"]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("augmentation=light", "augmentation=none"),
        ("augmentation.views=flips8", r"augmentation\.views=null"),
        ("loss.label_smoothing=0.1", r"loss\.label_smoothing=0"),
        ("trainer.ema_decay=0.9", r"trainer\.ema_decay=null"),
        ("backbone.knn.k=5000", r"backbone\.knn\.k below \d+, the number of images"),
        ("backbone.tune=full", r"backbone\.tune=head"),
        ("sampler=oversample", "each image once and alike.*set sampler=shuffle"),
        ("sampler=weighted", "set sampler=shuffle"),
        ("sampler=undersample", "set sampler=shuffle"),
    ],
)
def test_what_cannot_be_remembered_is_refused_before_a_run_is_opened(probe_job, override, text):
    with pytest.raises(ConfigError, match=text):
        train(probe_job(*KNN, override))


def test_keys_that_nothing_reads_are_warned_of(probe_job):
    config = probe_job("backbone.knn.k=7", "backbone.lora.rank=3").config
    texts = "\n".join(check_training(config, split_data(config, load_data(config))))
    assert "backbone.knn has no effect with backbone.head=linear" in texts
    assert "backbone.lora has no effect with backbone.tune=head" in texts
