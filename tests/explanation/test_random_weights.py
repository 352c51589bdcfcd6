import pytest
import torch
from torch import nn

from lesion_exp.backbone.network import FeatureExtractor
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.explanation.random_weights import random_weights, random_weights_correlation, rank_correlation


class Brightness(Explainer):
    """Looks at the image alone."""

    passes = 1

    def attribute(self, network, images, targets):
        return images.abs().sum(dim=1)


class Named(nn.Sequential):
    def forward(self, batch):
        return super().forward(batch["image"])


@pytest.fixture
def normed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    body = FeatureExtractor(network, 8, is_convolutional=True, cam_path="2")
    classifier = Named(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return ExplainedNetwork(classifier, body)


def test_a_map_that_ignores_the_network_is_found_out(network, images, targets):
    assert random_weights_correlation(Brightness(), network, images, targets) == pytest.approx(1)
    assert random_weights_correlation(GradCam(), network, images, targets) < 0.9


def test_the_network_is_what_it_was(normed, images):
    before = {name: values.clone() for name, values in normed.state_dict().items()}
    logits = normed(images)
    norm = normed.body.network[1]
    with random_weights(normed, images, seed=1):
        weight = normed.body.network[0].weight
        assert not torch.equal(weight, before["body.network.0.weight"])
        assert weight.std().item() == pytest.approx(before["body.network.0.weight"].std().item(), rel=0.2)
        assert norm.running_mean.abs().max() > 0
        assert not norm.training
        assert normed(images).std() > 0
    assert all(torch.equal(values, before[name]) for name, values in normed.state_dict().items())
    assert norm.momentum == 0.1
    assert torch.equal(normed(images), logits)


def test_rank_correlation_sees_the_order_alone():
    one = torch.arange(16.0).reshape(4, 4)
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert torch.isnan(torch.tensor(rank_correlation(one, torch.ones(4, 4))))
