from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from lesion_exp.augmentation.mix import Mix
from lesion_exp.errors import ConfigError


def batch(count=6, side=16):
    """Images of one value each, the sample's number, so that a pixel tells where it comes from."""
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous()


def mixed(mix, seed, *images):
    return mix(list(images), torch.Generator().manual_seed(seed))


def test_mixup_is_the_weighted_mean():
    images = torch.randn(5, 3, 8, 8)
    for seed in range(10):
        made = mixed(Mix(mixup_alpha=0.8), seed, images)
        assert 0 <= made.weight <= 1
        assert sorted(made.permutation.tolist()) == list(range(5))
        expected = made.weight * images + (1 - made.weight) * images[made.permutation]
        torch.testing.assert_close(made.images[0], expected)


def test_cutmix_pastes_one_box_and_its_weight_is_the_area_left():
    images = batch()
    for seed in range(30):
        made = mixed(Mix(cutmix_alpha=1.0), seed, images)
        own = made.images[0] == images
        other = made.images[0] == images[made.permutation]
        assert (own | other).all()
        for sample in range(len(images)):
            if made.permutation[sample] == sample:
                continue
            foreign = ~own[sample, 0]
            assert 1 - foreign.float().mean().item() == pytest.approx(made.weight, abs=1e-6)
            rows, columns = foreign.any(dim=1).sum(), foreign.any(dim=0).sum()
            assert foreign.sum() == rows * columns, "one box"


def test_the_loss_of_mixed_labels_is_the_mix_of_the_losses():
    images, labels, logits = batch(), torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(6, 3)
    for name in ("mixup_alpha", "cutmix_alpha"):
        made = mixed(Mix(**{name: 1.0}), 3, images)
        soft = made.weight * one_hot(labels, 3) + (1 - made.weight) * one_hot(labels[made.permutation], 3)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(6))
        parts = made.weight * cross_entropy(logits, labels)
        parts = parts + (1 - made.weight) * cross_entropy(logits, labels[made.permutation])
        torch.testing.assert_close(parts, cross_entropy(logits, soft))


@pytest.mark.parametrize("mix", [Mix(mixup_alpha=0.8), Mix(cutmix_alpha=1)], ids=["mixup", "cutmix"])
def test_two_views_are_mixed_alike(mix):
    made = mixed(mix, 5, batch(), batch() + 100)
    torch.testing.assert_close(made.images[1], made.images[0] + 100)


@pytest.mark.parametrize("mix", [Mix(0.8, 0), Mix(0, 1), Mix(0.8, 1, probability=0.5)], ids=str)
def test_it_is_a_function_of_the_generator_alone(mix):
    images = torch.randn(4, 3, 8, 8)
    kept = images.clone()
    for seed in range(5):
        torch.manual_seed(seed)
        first = mixed(mix, 11, images)
        state = torch.get_rng_state()
        second = mixed(mix, 11, images)
        assert torch.equal(state, torch.get_rng_state())
        assert first.weight == second.weight
        assert torch.equal(first.permutation, second.permutation)
        assert torch.equal(first.images[0], second.images[0])
    assert torch.equal(images, kept)
    assert len({mixed(Mix(0.8, 1), seed, images).weight for seed in range(20)}) > 12


@pytest.mark.parametrize("mix", [Mix(), Mix(mixup_alpha=0.8, probability=0)], ids=["off", "never"])
def test_without_mixing_the_batch_stays(mix):
    assert not mix.is_active
    images = batch()
    made = mixed(mix, 0, images)
    assert made.weight == 1
    assert made.permutation.tolist() == list(range(6))
    assert torch.equal(made.images[0], images)


def test_probability_and_switch_are_shares_of_batches():
    images, count = batch(4, 8), 400
    half = [mixed(Mix(mixup_alpha=1, probability=0.5), seed, images).weight for seed in range(count)]
    assert 0.4 < sum(weight == 1 for weight in half) / count < 0.6
    whole_numbers = 0
    for seed in range(count):
        made = mixed(Mix(1, 1, switch_probability=0.25), seed, images)
        whole_numbers += bool((made.images[0] == made.images[0].round()).all())
    assert 0.15 < whole_numbers / count < 0.4


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.8, 1.0, 4.0])
def test_weights_follow_the_beta_distribution(alpha):
    images = torch.zeros(2, 1, 2, 2)
    weights = torch.tensor([mixed(Mix(mixup_alpha=alpha), seed, images).weight for seed in range(3000)])
    assert weights.mean().item() == pytest.approx(0.5, abs=0.035)
    assert weights.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1, abs=0.002)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mixup_alpha": -1},
        {"cutmix_alpha": math.inf},
        {"mixup_alpha": math.nan},
        {"probability": 1.5},
        {"switch_probability": -0.1},
    ],
)
def test_impossible_values_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Mix(**arguments)
