"""Changes to a network: layers are found and replaced, the first convolution is widened, and attention is inserted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

REDUCTION = 16


def last_linear(network: nn.Module) -> str:
    """Returns the dotted name of the last linear layer, with which a classifier ends; empty if there is none."""
    return _last(network, nn.Linear)


def last_convolution(network: nn.Module) -> str:
    """Returns the dotted name of the last convolution; empty if there is none."""
    return _last(network, nn.Conv2d)


def _last(network: nn.Module, kind: type[nn.Module]) -> str:
    return next((name for name, module in reversed(list(network.named_modules())) if isinstance(module, kind)), "")


def replace(network: nn.Module, path: str, module: nn.Module) -> None:
    """Replaces the module at the dotted `path` by `module`."""
    parent, _, name = path.rpartition(".")
    network.get_submodule(parent).set_submodule(name, module) if parent else setattr(network, name, module)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d | None]:
    """Returns the dotted name of the first convolution, and the layer; an empty name and None if there is none."""
    layers = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    return next(layers, ("", None))


def with_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Returns the `weight` of a first convolution for another number of input channels.

    New channels start as the mean of the old ones.

    Args:
        weight: float (out, in, k, k).
        in_channels: the number of channels of the result, float (out, in_channels, k, k).
    """
    kept = min(weight.shape[1], in_channels)
    wide = weight.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1)
    wide[:, :kept] = weight[:, :kept]
    return wide


def widen_input(network: nn.Module, in_channels: int) -> None:
    """Gives the first convolution `in_channels` input channels, as `with_channels` does.

    The layer stays the same object: the convolutions of some libraries pad their input or standardise their weights.
    """
    conv = first_convolution(network)[1]
    if conv is None or conv.in_channels == in_channels:
        return
    kernel_size: Any = conv.kernel_size
    # a layer that draws its weights, though they are replaced: the random weights of later layers depend on the draws
    wide = nn.Conv2d(in_channels, conv.out_channels, kernel_size, bias=conv.bias is not None).weight
    with torch.no_grad():
        wide.copy_(with_channels(conv.weight, in_channels))
    conv.weight, conv.in_channels, conv.groups = wide, in_channels, 1


def map_channels(network: nn.Module, path: str, in_channels: int, image_size: int) -> int:
    """Returns the number of channels of the feature map that the module at `path` makes."""
    shapes: list[int] = []
    hook = network.get_submodule(path).register_forward_hook(lambda _, __, maps: shapes.append(int(maps.shape[1])))
    try:
        run_once(network, in_channels, image_size)
    finally:
        hook.remove()
    return shapes[-1]


def run_once(network: nn.Module, in_channels: int, image_size: int) -> Tensor:
    """Returns the output of the network for one black image."""
    was_training = network.training
    try:
        with torch.no_grad():
            output: Tensor = network.eval()(torch.zeros(1, in_channels, image_size, image_size))
    finally:
        network.train(was_training)
    return output


class SqueezeExcitation(nn.Module):
    """Squeeze and excitation: channels are weighted by their means over the image, with the reduction 16.

    Source: Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the weighted feature maps, (N, C, H, W), of `maps` (N, C, H, W)."""
        weighted: Tensor = maps * self.weigh(maps).sigmoid()
        return weighted


class ConvolutionalBlockAttention(nn.Module):
    """Channels, then positions are weighted, each by mean and maximum, with the reduction 16 and the kernel size 7.

    Source: Woo et al. 2018, arXiv:1807.06521.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 4)
        self.weigh = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.place = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the weighted feature maps, (N, C, H, W), of `maps` (N, C, H, W)."""
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
        channels: number of channels of that map.
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
