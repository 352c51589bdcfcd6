"""Every head gives float32 logits, and its weights survive a checkpoint, safetensors and the library's own names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from lesion_exp.backbone.heads import CosineHead, KNNHead, make_head
from lesion_exp.backbone.options import KNNOptions, SharedOptions
from lesion_exp.choices import HEADS
from lesion_exp.errors import ConfigError
from lesion_exp.model.restore import restore_file
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import artifact_names, download_artifact, read_predictions
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from tests.backbone.test_backbones import build
from tests.tiny_job import shared_root, tiny_job

__all__ = ["shared_root", "tiny_job"]


@pytest.mark.parametrize("name", [name for name in HEADS if name != "knn"])
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
    with pytest.raises(ConfigError, match=r"backbone\.head.*linear, mlp, cosine, knn"):
        SharedOptions(head="cosines")


@pytest.mark.parametrize("name", HEADS)
def test_a_traced_head_knows_nothing_of_autocast(name: str) -> None:
    head = make_head(name, 12, 5).eval()
    if isinstance(head, KNNHead):
        head.remember(torch.randn(40, 12), torch.arange(40) % 5, None)
    features = torch.randn(4, 12)
    program = torch.export.export(head, (features,), dynamic_shapes=({0: torch.export.Dim("images")},))
    steps = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not [step for step in steps if "autocast" in step]
    if name == "linear":
        assert steps == ["aten.linear.default"]
    assert torch.allclose(program.module()(features[:3]), head(features[:3]), atol=1e-6)


def neighbours(k: int = 5, temperature: float = 0.07) -> tuple[KNNHead, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 12, generator=generator), torch.randint(0, 5, (60,), generator=generator)
    head = KNNHead(12, 5, KNNOptions(k, temperature))
    head.remember(features, labels, None)
    return head, features, labels


def test_neighbours_vote_as_scikit_learns_do() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    head, features, labels = neighbours(k=7, temperature=0.1)
    reference = KNeighborsClassifier(7, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.1))
    asked = torch.randn(30, 12, generator=torch.Generator().manual_seed(1))
    expected = reference.fit(features, labels).predict_proba(asked)
    assert head(asked).softmax(1).numpy() == pytest.approx((expected + 1e-4) / (1 + 5e-4), abs=2e-3)
    assert torch.equal(head(asked), head(100 * asked)) or torch.allclose(head(asked), head(100 * asked), atol=1e-5)


def test_an_image_that_is_left_out_does_not_vote_for_itself() -> None:
    head, features, labels = neighbours(k=1)
    assert torch.equal(head(features).argmax(1), labels)
    places = torch.arange(0, 60, 7)
    left_out = head.without_itself(places)
    for place, logits in zip(places.tolist(), left_out, strict=True):
        others = torch.arange(60) != place
        alone = KNNHead(12, 5, head.options)
        alone.remember(features[others], labels[others], None)
        assert torch.allclose(alone(features[place : place + 1])[0], logits, atol=1e-3)


def test_class_weights_are_those_of_the_votes() -> None:
    head, features, labels = neighbours(k=20, temperature=1e6)
    plain = head(features).softmax(1) - 1e-4
    head.remember(features, labels, torch.tensor([1.0, 1.0, 4.0, 1.0, 1.0]))
    weighted = head(features).softmax(1) - 1e-4
    assert ((weighted / weighted[:, :1])[:, 2] / (plain / plain[:, :1])[:, 2]).nanmedian() == pytest.approx(4, rel=0.02)


def test_what_is_remembered_is_loaded_whatever_its_length() -> None:
    head, features, _ = neighbours()
    other = KNNHead(12, 5, head.options)
    assert not other(features).any()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features), head(features))
    assert head.megabytes() == pytest.approx(60 * (12 * 2 + 8) / 1e6)


@pytest.mark.parametrize("change", ["tune=full", "metadata=concat", "dropout=0.1"])
def test_neighbours_need_features_that_nothing_changes(change: str) -> None:
    key, value = change.split("=")
    options = {"head": "knn", "tune": "head", key: float(value) if key == "dropout" else value}
    with pytest.raises(ConfigError, match=rf"frozen network.*backbone\.{key}=.*backbone\.head=linear"):
        SharedOptions(**options)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
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
