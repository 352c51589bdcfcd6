"""Each method trains a small body, by its own definition and reproducibly; what it cannot train is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from lesion_exp.errors import ConfigError
from lesion_exp.pretrain import chosen_parts
from lesion_exp.pretrain.byol import BYOL
from lesion_exp.pretrain.dino import DINO
from lesion_exp.pretrain.mae import MAE
from lesion_exp.pretrain.method import BodyFacts, Method, Progress, momentum_at
from lesion_exp.pretrain.simclr import SimCLR
from lesion_exp.pretrain.vicreg import VICReg

pytest.importorskip("lightly")

FACTS = BodyFacts(num_features=16, is_convolutional=True, image_size=16, starts_random=True)
SMALL = {
    "simclr": lambda: SimCLR(FACTS, hidden_dim=16, output_dim=8),
    "vicreg": lambda: VICReg(FACTS, hidden_dim=16, output_dim=8),
    "byol": lambda: BYOL(FACTS, hidden_dim=16, output_dim=8),
    "dino": lambda: DINO(FACTS, hidden_dim=16, output_dim=12, num_views=3, freeze_last_layer=0),
    "mae": lambda: MAE(FACTS, decoder_dim=16, decoder_depth=1, decoder_heads=2),
}


def body_for(name: str) -> nn.Module:
    if name == "mae":
        timm = pytest.importorskip("timm")
        return timm.models.vision_transformer.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=0
        )
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)


def started(name: str) -> tuple[nn.Module, Method]:
    torch.manual_seed(0)
    body, method = body_for(name), SMALL[name]()
    method.attach(body)
    return body, method


def views_of(method: Method) -> list[torch.Tensor]:
    """Views of 8 images of different colours, with noise."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 1, 1, generator=generator).expand(-1, -1, 16, 16)
    return [images + 0.1 * torch.randn(images.shape, generator=generator) for _ in range(method.num_views)]


def steps(body: nn.Module, method: Method, count: int) -> list[float]:
    """The losses of `count` steps on the same views."""
    trained = [weights for part in (body, method) for weights in part.parameters() if weights.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    views, losses = views_of(method), []
    for step in range(count):
        torch.manual_seed(7)
        progress = Progress(step, count, 0)
        method.before_step(body, progress)
        loss = method.loss(body, views, progress)
        optimizer.zero_grad()
        loss.backward()
        method.after_backward(progress)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_falls_and_all_weights_that_are_trained_change(name):
    body, method = started(name)
    before = {key: value.clone() for key, value in body.named_parameters() if value.requires_grad}
    losses = steps(body, method, 25)
    assert losses[-1] < losses[0]
    unchanged = [key for key, value in before.items() if torch.equal(value, dict(body.named_parameters())[key])]
    assert not unchanged
    again = steps(*started(name), 25)
    assert again == losses


def test_simclr_is_the_formula_of_the_paper():
    body, method = started("simclr")
    views = views_of(method)
    value = method.loss(body, views, Progress(0, 1, 0))
    projected = [method.projection(features) for features in body(torch.cat(views)).chunk(2)]
    z = functional.normalize(torch.cat(projected), dim=1)
    similar = (z @ z.T / 0.2).fill_diagonal_(-torch.inf)
    partner = torch.cat([torch.arange(8, 16), torch.arange(8)])
    torch.testing.assert_close(value, functional.cross_entropy(similar, partner), rtol=1e-4, atol=1e-5)


def test_the_teacher_follows_the_student_by_its_momentum_and_is_not_trained():
    body, method = started("dino")
    before = copy.deepcopy(method.teacher)
    with torch.no_grad():
        for weights in body.parameters():
            weights.add_(1.0)
    method.before_step(body, Progress(0, 100, 0))
    for old, new in zip(before.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.01)
        assert not new.requires_grad


def test_the_momentum_rises_to_one_by_a_half_cosine_unless_the_training_is_endless():
    assert momentum_at(Progress(0, 101, 0), 0.9, 1.0) == pytest.approx(0.9)
    assert momentum_at(Progress(50, 101, 0), 0.9, 1.0) == pytest.approx(0.95)
    assert momentum_at(Progress(100, 101, 0), 0.9, 1.0) == pytest.approx(1.0)
    assert momentum_at(Progress(100, float("inf"), 0), 0.9, 1.0) == 0.9


def test_the_masked_autoencoder_sees_a_quarter_of_the_patches_and_draws_the_others():
    body, method = started("mae")
    seen = []
    encode = method._encoder[0].encode
    method._encoder[0].encode = lambda images, idx_keep: seen.append(idx_keep) or encode(images, idx_keep=idx_keep)
    method.loss(body, views_of(method), Progress(0, 1, 0))
    kept = seen[0]
    assert kept.shape == (8, 1 + 4), "the class token and 4 of 16 patches"
    assert (kept[:, 0] == 0).all()
    assert kept[:, 1:].min() >= 1
    assert len({tuple(sorted(row)) for row in kept.tolist()}) > 1, "other patches of each image"


def test_a_masked_autoencoder_starts_from_given_weights_as_they_are():
    torch.manual_seed(0)
    body = body_for("mae")
    before = {key: value.clone() for key, value in body.state_dict().items()}
    facts = BodyFacts(16, False, 16, starts_random=False)
    MAE(facts, decoder_dim=16, decoder_depth=1, decoder_heads=2).attach(body)
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())


def test_a_body_without_patches_is_refused_with_what_to_use():
    method = SMALL["mae"]()
    with pytest.raises(ConfigError, match=r"Sequential; use backbone=timm backbone.name=vit_tiny_patch16_224"):
        method.attach(body_for("simclr"))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SimCLR(FACTS, temperature=0.0), "temperature"),
        (lambda: BYOL(FACTS, momentum=1.5), "momentum"),
        (lambda: DINO(FACTS, num_views=1), "num_views"),
        (lambda: DINO(FACTS, student_temperature=0.0), "student_temperature"),
        (lambda: MAE(FACTS, mask_ratio=1.0), "mask_ratio"),
        (lambda: MAE(FACTS, decoder_dim=30, decoder_heads=4), "decoder_dim"),
    ],
)
def test_values_out_of_range_are_refused(make, key):
    with pytest.raises(ConfigError, match=f"expected pretrain.{key} "):
        make()


def test_parts_are_train_all_or_a_list():
    assert chosen_parts("train") == ("train",)
    assert chosen_parts("all") == ("train", "val", "test")
    assert chosen_parts(["val", "train"]) == ("train", "val")
    for wrong in ("tset", [], ["train", "unlabelled"], 3, {"train": 1}):
        with pytest.raises(ConfigError, match=r"expected pretrain.parts to be train, all, or a list"):
            chosen_parts(wrong)
