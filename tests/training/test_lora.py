"""A run with LoRA: stopped and resumed to the same weights, and everything that is made from it needs no peft."""

from __future__ import annotations

import sys

import pytest
import torch

from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import read_checkpoint, state_hash
from lesion_exp.model.restore import restore, restore_file
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from lesion_exp.verbs.resume import resume

pytestmark = pytest.mark.usefixtures("no_pictures")

LORA = ("backbone=resnet18", "backbone.tune=lora", "backbone.lora.rank=2", "backbone.lora.dropout=0.1")


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_merged_weights(tiny_job, monkeypatch):
    pytest.importorskip("peft")
    job = tiny_job(*LORA, "trainer.max_epochs=2", "tags.which=stopped")
    whole = find_run(job.project.store, train(job).run_id)
    real = LesionClassifier.training_step

    def dying(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    monkeypatch.setattr(LesionClassifier, "training_step", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(job)
    monkeypatch.setattr(LesionClassifier, "training_step", real)
    stopped = find_run(job.project.store, "latest")
    resume(stopped, job.project)
    resumed = find_run(job.project.store, stopped.run_id)
    assert resumed.tags["weights_hash"] == whole.tags["weights_hash"]

    monkeypatch.setitem(sys.modules, "peft", None)
    best = download_artifact(whole, "checkpoints/best.ckpt")
    state = read_checkpoint(best)["state_dict"]
    assert not [name for name in state if "lora" in name or "base_layer" in name]
    assert state_hash(state) == whole.tags["weights_hash"]
    last = download_artifact(whole, "checkpoints/last.ckpt")
    assert [name for name in read_checkpoint(last)["state_dict"] if "lora_A" in name], "what goes on needs them apart"
    split = split_data(job.config, load_data(job.config))
    test_part = split.table[split.table["split"] == "test"]
    networks = [restore(job.config, best), restore_file(download_artifact(whole, "checkpoints/best.safetensors"))]
    kept = read_predictions(whole, "test").set_index("image_id")
    columns = [column for column in kept if column.startswith("p_")]
    for restored in networks:
        found = restored.predict(test_part, split.loaded.store).set_index("image_id").loc[kept.index, columns]
        assert (found - kept[columns]).abs().to_numpy().max() == 0
    assert restore(job.config, last).classifier.backbone.body.network.conv1.weight.shape == (64, 3, 7, 7)
    plain = torch.load(download_artifact(whole, "checkpoints/best.state_dict.pt"), weights_only=True)
    assert {"conv1.weight", "fc.weight"} <= set(plain)


def test_a_missing_package_is_told_before_a_run_is_opened(tiny_job, monkeypatch):
    monkeypatch.setattr("lesion_exp.backbone.lora.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("lesion_exp.training.run.check_installed", lambda config: None)
    with pytest.raises(ConfigError, match=r"peft for backbone\.tune=lora"):
        train(tiny_job(*LORA))
