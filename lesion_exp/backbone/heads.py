"""The heads of a network, from features to logits; all of them compute in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesion_exp.choices import HEADS
from lesion_exp.errors import check_choice

FIRST_SCALE: Final = 16.0
"""Of `CosineHead`: with cosines from -1 to 1 its softmax can then come near 1."""


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, also under autocast: logits in bf16, which has 8 significant bits, are
    equal where they should not be.
    """

    def forward(self, features: Tensor) -> Tensor:
        """float32 (N, out_features), of features (N, in_features) of any floating type."""
        device = features.device.type
        if features.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled(device):
            return super().forward(features)
        with torch.autocast(device, enabled=False):
            return functional.linear(features.float(), self.weight.float(), self.bias.float())


class MLPHead(nn.Module):
    """Two linear layers with a GELU in between; the hidden layer is as wide as the features.

    Args:
        in_features: length of a feature vector.
        num_classes: length of the logits.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.hidden = Float32Linear(in_features, in_features)
        self.out = Float32Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, float32 (N, num_classes), of features (N, in_features) of any floating type."""
        logits: Tensor = self.out(functional.gelu(self.hidden(features)))
        return logits


class CosineHead(nn.Module):
    """The cosine of the angle between features and the direction of each class, times a scale that is trained.

    Lengths play no part, so that classes with many images get no longer weights than rare ones (Gidaris and Komodakis
    2018, arXiv:1804.09458).

    Args:
        in_features: length of a feature vector.
        num_classes: length of the logits.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        nn.init.normal_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, float32 (N, num_classes), of features (N, in_features) of any floating type."""
        device = features.device.type
        if features.dtype == torch.float32 and not torch.is_autocast_enabled(device):
            return self._logits(features)
        with torch.autocast(device, enabled=False):
            return self._logits(features.float())

    def _logits(self, features: Tensor) -> Tensor:
        directions = functional.normalize(self.weight.float(), dim=1)
        return self.scale.float() * functional.linear(functional.normalize(features, dim=1), directions)


Head = Float32Linear | MLPHead | CosineHead


def make_head(name: str, in_features: int, num_classes: int) -> Head:
    """Returns the head called `name`: `linear`, `mlp` or `cosine`; it says its `in_features`.

    Raises:
        ConfigError: the name is unknown.
    """
    check_choice("backbone.head", name, HEADS)
    kinds: dict[str, Callable[[int, int], Head]] = {"linear": Float32Linear, "mlp": MLPHead, "cosine": CosineHead}
    return kinds[name](in_features, num_classes)
