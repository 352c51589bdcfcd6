from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lesion_exp.backbone.network import FeatureExtractor
from lesion_exp.explanation.network import ExplainedNetwork


class Classifier(nn.Module):
    """Two layers of convolution, their mean, a head; with metadata, these are added to the features."""

    def __init__(self, metadata=0):
        super().__init__()
        features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1)
        )
        network = nn.Sequential()
        network.add_module("features", features)
        network.add_module("pool", nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.body = FeatureExtractor(network, 8, is_convolutional=True, cam_path="features")
        self.mix = nn.Linear(metadata, 8) if metadata else None
        self.head = nn.Linear(8, 3)

    def forward(self, batch):
        features = self.body(batch["image"])
        if self.mix is not None:
            features = features * self.mix(batch["metadata"])
        return self.head(features)


class Bright(nn.Module):
    """Class 1 is the likelier, the brighter the square in the upper left corner; the rest of the image has no say."""

    def forward(self, batch):
        brightness = batch["image"][:, :, 4:12, 4:12].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(brightness), 3 * brightness], dim=1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    classifier = Classifier()
    return ExplainedNetwork(classifier, classifier.body)


@pytest.fixture
def with_metadata():
    torch.manual_seed(0)
    classifier = Classifier(metadata=4)
    return ExplainedNetwork(classifier, classifier.body, {"metadata": torch.randn(3, 4)})


@pytest.fixture
def bright():
    """Its network, two images that are bright all over, and the mask of the square that counts."""
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[4:12, 4:12] = True
    generator = torch.Generator().manual_seed(0)
    images = 1 + 0.1 * torch.rand(2, 3, 32, 32, generator=generator)
    return SimpleNamespace(network=ExplainedNetwork(Bright(), None), images=images, mask=mask)


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets():
    return torch.tensor([0, 2, 1])
