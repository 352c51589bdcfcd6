"""Channel and spatial attention for convolutional networks: `backbone.attention=se|cbam`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError, did_you_mean

ATTENTIONS = ("none", "se", "cbam")
REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """Channels weighted by what the whole image holds (Hu et al. 2018, arXiv:1709.01507), reduction 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        weighted: Tensor = maps * self.weigh(maps).sigmoid()
        return weighted


class ConvolutionalBlockAttention(nn.Module):
    """Channels, then places weighted, each by mean and maximum (Woo et al. 2018, arXiv:1807.06521), kernel 7."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 4)
        self.weigh = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.place = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        mean, largest = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        weighted = maps * (self.weigh(mean) + self.weigh(largest)).sigmoid()
        summary = torch.cat([weighted.mean(1, keepdim=True), weighted.amax(1, keepdim=True)], dim=1)
        placed: Tensor = weighted * self.place(summary).sigmoid()
        return placed


def attention_block(kind: str, channels: int) -> nn.Module:
    """The attention called `kind` for maps of `channels` channels.

    Raises:
        ConfigError: the name is unknown.
    """
    if kind == "se":
        return SqueezeExcitation(channels)
    if kind == "cbam":
        return ConvolutionalBlockAttention(channels)
    raise ConfigError(
        f"expected backbone.attention to be one of {', '.join(ATTENTIONS)}, got {kind!r}"
        f"{did_you_mean(kind, ATTENTIONS)}"
    )
