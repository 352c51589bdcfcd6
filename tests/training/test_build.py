from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lesion_exp.config.compose import compose
from lesion_exp.data.datamodule import stack_images
from lesion_exp.data.lesion_dataset import collate_samples
from lesion_exp.data.lesion_masks import Squash
from lesion_exp.errors import ConfigError
from lesion_exp.model.model_card import completed
from lesion_exp.model.restore import restore
from lesion_exp.training.build import build
from lesion_exp.training.callbacks import MovingAverage
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.trainer import build_trainer
from lesion_exp.verbs.preview import DRAWS, augmentation_grid
from tests.tiny import TINY


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds what a Trainer fits from overrides; the data are drawn once."""
    root = tmp_path_factory.mktemp("build")
    plain = compose(TINY, root=root).config
    split = split_data(plain, load_data(plain))
    return lambda *overrides: build(compose([*TINY, *overrides], root=root).config, split)


def optimizer_of(built, *overrides):
    classifier = built(*overrides).classifier
    return classifier.make_optimizer([{"params": list(classifier.parameters())}], 0.01)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_an_optimizer_that_can_does_its_step_in_one_kernel(built, name):
    assert optimizer_of(built, f"optimizer={name}").param_groups[0]["fused"] is True


def test_a_user_can_choose_the_step_by_step_form_and_fp16_always_has_it(built):
    assert optimizer_of(built, "optimizer=adamw", "+optimizer.fused=false").param_groups[0]["fused"] is False
    halved = optimizer_of(built, "optimizer=adamw", "trainer.precision=16-mixed", "trainer.accelerator=gpu")
    assert not halved.param_groups[0]["fused"]


def test_one_kernel_and_step_by_step_move_the_weights_alike(built):
    moved = []
    for choice in ("true", "false"):
        classifier = built("optimizer=adamw", f"+optimizer.fused={choice}").classifier
        optimizer = classifier.make_optimizer([{"params": list(classifier.parameters())}], 0.01)
        for weights in classifier.parameters():
            weights.grad = torch.full_like(weights, 0.5)
        optimizer.step()
        moved.append(torch.cat([weights.detach().ravel() for weights in classifier.parameters()]))
    assert torch.allclose(*moved, atol=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
def test_gradients_are_clipped_in_front_of_a_step_in_one_kernel(built, tmp_path, precision, algorithm):
    made = built("optimizer=adamw")
    settings = {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": algorithm, "precision": precision}
    one_step = {"max_steps": 1, "limit_val_batches": 0, "logger": False, "enable_checkpointing": False}
    pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, use_distributed_sampler=False, **settings, **one_step).fit(
        made.classifier, datamodule=made.datamodule
    )
    gradients = torch.cat([weights.grad.ravel() for weights in made.classifier.parameters()])
    size = gradients.abs().max() if algorithm == "value" else gradients.norm()
    assert 0.9e-4 < size < 1.001e-4


def test_a_way_of_compiling_that_torch_does_not_know_is_refused(built):
    with pytest.raises(ConfigError, match="did you mean 'reduce-overhead'"):
        built("trainer.compile=reduce-overhed")


def test_compiling_waits_for_the_first_step(built):
    assert built("trainer.compile=default").classifier.backbone._compiled_call_impl is not None
    assert built().classifier.backbone._compiled_call_impl is None


def test_augmenting_on_a_gpu_needs_one_and_trains_what_it_shows(built, monkeypatch):
    with pytest.raises(ConfigError, match="expected a GPU"):
        built("augmentation=standard", "augmentation.device=gpu")
    monkeypatch.setattr("lesion_exp.training.build.has_gpu", lambda accelerator: True)
    made = built("augmentation=standard", "augmentation.device=gpu")
    dataset = made.datamodule.dataset("train", training=True)
    batch = collate_samples([dataset[(0, position)] for position in range(6)])
    assert batch["image"].shape[2:] == dataset.canvas
    classifier = made.classifier
    monkeypatch.setattr(classifier, "log", lambda *args, **kwargs: None)
    seen = []
    monkeypatch.setattr(classifier, "normalize", lambda images: seen.append(images) or images.float())
    assert classifier.training_step(batch, 0).isfinite()
    assert np.array_equal(seen[0].permute(0, 2, 3, 1).numpy(), stack_images(dataset, range(6)))
    one_by_one = built("augmentation=standard").datamodule.dataset("train", training=True)
    difference = seen[0].int() - collate_samples([one_by_one[(0, position)] for position in range(6)])["image"].int()
    assert difference.abs().float().mean() < 3
    shown = [axes.images[0].get_array() for axes in augmentation_grid(made.datamodule).axes[: 1 + DRAWS]]
    side = made.datamodule.pipeline.image_size
    assert {pixels.shape for pixels in shown} == {(side, side, 3)}
    assert all(not np.array_equal(shown[1], other) for other in shown[2:])


def test_mean_and_deviation_of_the_training_part_are_measured_and_recorded(built, tmp_path):
    own = built("augmentation=light", "augmentation.mean=train", "augmentation.std=train")
    options, pipeline = own.classifier.options, own.datamodule.pipeline
    rows = own.datamodule.parts["train"]["image_id"]
    store = own.datamodule.store
    images = [store.read(int(row)).reshape(-1, 3) / 255 for row in store.rows(rows)]
    pixels = np.concatenate(images)  # all of one size
    np.testing.assert_allclose(options.mean, pixels.mean(0), atol=1e-5)
    np.testing.assert_allclose(options.std, pixels.std(0), atol=1e-5)
    crop = dict(pipeline._transforms)["augmentation.transforms.crop"]
    assert crop.fill == pipeline.mean == tuple(options.card["preprocessing"]["mean"])
    torch.save({"lesion_exp": options.card, "state_dict": own.classifier.state_dict()}, tmp_path / "best.ckpt")
    job = compose([*TINY, "augmentation=light", "augmentation.mean=train", "augmentation.std=train"], root=tmp_path)
    again = restore(job.config, tmp_path / "best.ckpt")
    assert again.pipeline.mean == pipeline.mean
    image = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    torch.testing.assert_close(again.classifier.normalize(image), own.classifier.normalize(image))
    card = completed(options.card, job.config, "run", {})
    assert card["preprocessing"]["mean"] == options.card["preprocessing"]["mean"]


@pytest.mark.parametrize(
    "options", [("augmentation=colour_constancy",), ("augmentation=light", "dataset.mask=background")]
)
def test_mean_and_deviation_are_measured_after_preprocessing_and_masking(tmp_path, options):
    asked = ("augmentation.mean=train", "augmentation.std=train", "augmentation.fit=squash")
    config = compose([*TINY, *options, *asked], root=tmp_path).config
    made = build(config, split_data(config, load_data(config)))
    dataset = made.datamodule.dataset("train", training=False)
    images = torch.stack([dataset[(0, place)]["image"] for place in range(len(dataset))])
    normal = made.classifier.normalize(images).transpose(0, 1).flatten(1)
    assert normal.mean(1).abs().max() < 0.05
    assert (normal.std(1) - 1).abs().max() < 0.1  # the images are reduced, which takes some of their deviation


def test_the_average_of_the_weights_is_made_on_the_device_that_trains(built):
    average = MovingAverage(0.9)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    average.setup(trainer, built().classifier, "fit")
    assert {weights.device.type for weights in average._average_model.parameters()} == {"meta"}


def test_val_loss_keeps_its_meaning_when_the_loss_begins_to_reweight(built):
    classifier, found, trained = built("loss=ldam").classifier, [], []
    target = torch.arange(len(classifier.options.classes))
    logits = torch.linspace(-1, 1, len(target) ** 2).reshape(len(target), -1).sin()
    for epoch in (0, 9):
        classifier.loss.set_epoch(epoch, 10)
        trained.append(float(classifier.loss(logits, target)))
        batch = {"logits": logits, "preds": logits.softmax(1), "target": target, "index": target}
        classifier.validation_metrics.reset()
        classifier.validation_metrics.update(**batch)
        found.append(float(classifier.validation_metrics.compute()["val/loss"]))
    assert trained[0] != trained[1]
    assert found[0] == found[1] == pytest.approx(trained[0])


@pytest.mark.parametrize("strategy", ["ddp", "auto"])
def test_processes_do_not_wait_for_gradients_of_weights_that_are_frozen_at_first(tmp_path, strategy):
    node = compose([*TINY, "trainer=ddp_cpu", f"trainer.strategy={strategy}"], root=tmp_path).config["trainer"]
    waits, looks = (build_trainer(node, False, tmp_path, [], freezes=freezes).strategy for freezes in (False, True))
    assert not waits._ddp_kwargs.get("find_unused_parameters", False)
    assert looks._ddp_kwargs["find_unused_parameters"]
    alone = build_trainer({**node, "devices": 1, "strategy": "auto"}, False, tmp_path, [], freezes=True)
    assert not isinstance(alone.strategy, type(looks))


def test_the_metadata_of_a_mixed_batch_are_mixed_like_its_images_and_labels(built, monkeypatch):
    made = built("backbone.metadata=concat", "augmentation/mix=mixup", "augmentation.mix.probability=1")
    dataset = made.datamodule.dataset("train", training=True)
    batch = collate_samples([dataset[(0, position)] for position in range(6)])
    classifier, shown = made.classifier, []
    monkeypatch.setattr(classifier, "log", lambda *args, **kwargs: None)
    forward = classifier.forward
    monkeypatch.setattr(classifier, "forward", lambda batch: shown.append(batch) or forward(batch))
    classifier.training_step(batch, 0)
    mixed = classifier.mix(
        [classifier.normalize(batch["image"])], torch.Generator().manual_seed(classifier._step_seed(0))
    )
    own, other = batch["metadata"], batch["metadata"][mixed.permutation]
    torch.testing.assert_close(shown[0]["image"], mixed.images[0])
    torch.testing.assert_close(shown[0]["metadata"], mixed.weight * own + (1 - mixed.weight) * other)
    assert not torch.equal(shown[0]["metadata"], own)


def test_the_log_names_the_layers_that_are_trained(built, caplog):
    caplog.set_level("INFO")
    network = built("backbone=small_cnn", "backbone.tune=last:1").classifier.backbone
    count = sum(weights.numel() for weights in network.parameters() if weights.requires_grad)
    total = sum(weights.numel() for weights in network.parameters())
    assert f"last:1 trains features.3 and the head: {count:,} of {total:,} weights" in caplog.text


def test_a_network_knows_that_it_was_trained_on_squashed_copies(tmp_path):
    overrides = [*TINY, "dataset.mask=crop"]
    config = compose(overrides, root=tmp_path).config
    split = split_data(config, load_data(config))
    cards = []
    for squash in (None, Squash(images=(224, 224), masks=(600, 450))):
        split.loaded.store.squash = squash
        made = build(config, split).classifier
        card = completed(made.options.card, config, "run", {})
        torch.save({"lesion_exp": card, "state_dict": made.state_dict()}, tmp_path / "best.ckpt")
        assert restore(config, tmp_path / "best.ckpt").preparation.squash == squash
        cards.append(card["preprocessing"])
    assert cards[1].pop("squashed_copies") == {"images": [224, 224], "masks": [600, 450]}
    assert cards[0] == cards[1]
