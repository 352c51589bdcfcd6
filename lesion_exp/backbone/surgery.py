"""Changes to a ready network: the last linear layer taken off, the first convolution widened, attention put in."""

from __future__ import annotations

import torch
from torch import nn

from lesion_exp.backbone.attention import attention_block


def last_linear(network: nn.Module) -> str:
    """The dotted name of the last linear layer: the head of every classification network."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    assert names, "a classification network without a linear layer"
    return str(names[-1])


def replace(network: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` where the dotted `path` points."""
    parent, _, name = path.rpartition(".")
    network.get_submodule(parent).set_submodule(name, module) if parent else setattr(network, name, module)


def widen_input(network: nn.Module, in_channels: int) -> None:
    """Gives the first convolution `in_channels` input channels; new ones start as the mean of the old ones' weights."""
    path, conv = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == in_channels:
        return
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


def insert_attention(network: nn.Module, kind: str, cam_path: str, channels: int) -> None:
    """Puts attention after every residual block of a ResNet (as in its papers), else after the last feature map.

    Args:
        network: changed in place.
        kind: `se` or `cbam`.
        cam_path: dotted name of the module that makes the last feature map.
        channels: of that map.
    """
    if not hasattr(network, "layer4"):
        last = network.get_submodule(cam_path)
        replace(network, cam_path, nn.Sequential(last, attention_block(kind, channels)))
        return
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = network.get_submodule(stage)
        for name, block in list(blocks.named_children()):
            width = [module.num_features for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]
            blocks.set_submodule(name, nn.Sequential(block, attention_block(kind, width)))


def map_channels(network: nn.Module, cam_path: str, in_channels: int, image_size: int) -> int:
    """Channels of the last feature map, found by sending one black image through."""
    shapes: list[int] = []
    hook = network.get_submodule(cam_path).register_forward_hook(lambda _, __, maps: shapes.append(int(maps.shape[1])))
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, in_channels, image_size, image_size))
    finally:
        hook.remove()
        network.train(was_training)
    return shapes[-1]
