"""Every head gives float32 logits, and its weights survive a checkpoint, safetensors and the library's own names."""

from __future__ import annotations

import pytest
import torch
import torchvision

from lesion_exp.backbone.heads import CosineHead, make_head
from lesion_exp.backbone.options import SharedOptions
from lesion_exp.choices import HEADS
from lesion_exp.errors import ConfigError
from lesion_exp.model.restore import restore_file
from lesion_exp.tracking.find import artifact_names, download_artifact, find_run, read_predictions
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from tests.backbone.test_backbones import build
from tests.tiny_job import shared_root, tiny_job

__all__ = ["shared_root", "tiny_job"]


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_float32_and_follow_from_the_features_as_they_are(name: str) -> None:
    head = make_head(name, 12, 5)
    features = torch.randn(4, 12).bfloat16()
    expected = head(features.float())
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected)
    assert head.in_features == 12
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_cosine_head_looks_at_directions_alone() -> None:
    head = CosineHead(6, 3).requires_grad_(False)
    features = torch.randn(5, 6)
    assert torch.allclose(head(features), head(1000 * features), atol=1e-4)
    assert head(features).abs().max() <= float(head.scale) * 1.0001
    aligned = head(head.weight).diagonal()
    assert torch.allclose(aligned, torch.full((3,), float(head.scale)))


@pytest.mark.parametrize("name", ["mlp", "cosine"])
def test_a_file_with_a_linear_head_brings_the_body_alone(name: str, tmp_path) -> None:
    reference = torchvision.models.resnet18(num_classes=7)
    torch.save(reference.state_dict(), tmp_path / "r.pth")
    backbone = build("resnet18", weights=str(tmp_path / "r.pth"), head=name)
    assert torch.equal(backbone.body.network.conv1.weight, reference.conv1.weight)
    assert backbone.library_names() is None
    with_metadata = build("resnet18", head=name, metadata_width=9, metadata="concat")
    assert with_metadata(torch.randn(2, 3, 64, 64), None, torch.randn(2, 9)).shape == (2, 7)


def test_an_unknown_head_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.head.*linear, mlp, cosine"):
        SharedOptions(head="cosines")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cosine"])
def test_a_run_keeps_its_head(name: str, tiny_job) -> None:
    job = tiny_job(f"backbone.head={name}", "trainer.max_epochs=1", "tracking.log_images=false")
    run = find_run(job.project.store, train(job).run_id)
    assert "model/MLmodel" in artifact_names(run)
    restored = restore_file(download_artifact(run, "checkpoints/best.safetensors"))
    split = split_data(job.config, load_data(job.config))
    test_part = split.table[split.table["split"] == "test"]
    table = restored.predict(test_part, split.loaded.store)
    columns = [column for column in table if column.startswith("p_")]
    kept = read_predictions(run, "test").set_index("image_id")[columns]
    assert (table.set_index("image_id").loc[kept.index, columns] - kept).abs().to_numpy().max() < 1e-5
