"""Changes to a network: layers are found and replaced, and the first convolution is widened."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def last_linear(network: nn.Module) -> str:
    """The dotted name of the last linear layer, in which a classification network ends; empty: there is none."""
    return _last(network, nn.Linear)


def last_convolution(network: nn.Module) -> str:
    """The dotted name of the last convolution; empty: there is none."""
    return _last(network, nn.Conv2d)


def _last(network: nn.Module, kind: type[nn.Module]) -> str:
    return next((name for name, module in reversed(list(network.named_modules())) if isinstance(module, kind)), "")


def replace(network: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` where the dotted `path` points."""
    parent, _, name = path.rpartition(".")
    network.get_submodule(parent).set_submodule(name, module) if parent else setattr(network, name, module)


def widen_input(network: nn.Module, in_channels: int) -> None:
    """Gives the first convolution `in_channels` input channels; new ones start as the mean of the old ones' weights."""
    first = next(((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first[1].in_channels == in_channels:
        return
    path, conv = first
    wide = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        kept = min(conv.in_channels, in_channels)
        wide.weight[:] = conv.weight.mean(dim=1, keepdim=True)
        wide.weight[:, :kept] = conv.weight[:, :kept]
        if conv.bias is not None and wide.bias is not None:
            wide.bias.copy_(conv.bias)
    replace(network, path, wide)


def map_channels(network: nn.Module, path: str, in_channels: int, image_size: int) -> int:
    """Channels of the feature map that the module at `path` makes."""
    shapes: list[int] = []
    hook = network.get_submodule(path).register_forward_hook(lambda _, __, maps: shapes.append(int(maps.shape[1])))
    try:
        run_once(network, in_channels, image_size)
    finally:
        hook.remove()
    return shapes[-1]


def run_once(network: nn.Module, in_channels: int, image_size: int) -> Tensor:
    """What the network gives for one black image."""
    was_training = network.training
    try:
        with torch.no_grad():
            output: Tensor = network.eval()(torch.zeros(1, in_channels, image_size, image_size))
    finally:
        network.train(was_training)
    return output
