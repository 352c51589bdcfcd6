"""Channel and spatial attention for convolutional networks: `backbone.attention=se|cbam`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lesion_exp.backbone.surgery import replace

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


ATTENTIONS: Mapping[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "se": SqueezeExcitation,
    "cbam": ConvolutionalBlockAttention,
}


def insert_attention(network: nn.Module, kind: str, cam_path: str, channels: int) -> None:
    """Puts attention after every residual block of a ResNet (as in its papers), else after the last feature map.

    Args:
        network: changed in place.
        kind: `se` or `cbam`.
        cam_path: dotted name of the module that makes the last feature map.
        channels: of that map.
    """
    make = ATTENTIONS[kind]
    assert make is not None, "no attention is not inserted"
    if not hasattr(network, "layer4"):
        replace(network, cam_path, nn.Sequential(network.get_submodule(cam_path), make(channels)))
        return
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = network.get_submodule(stage)
        for name, block in list(blocks.named_children()):
            width = [module.num_features for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]
            blocks.set_submodule(name, nn.Sequential(block, make(width)))
