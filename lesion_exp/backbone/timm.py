"""Any classification network of timm, by name; needs the extra `timm`."""

from __future__ import annotations

import importlib
from typing import Any, Final

from torch import nn

from lesion_exp.backbone.network import Network, State
from lesion_exp.backbone.surgery import last_linear
from lesion_exp.errors import ConfigError, nearest, not_installed

PACKAGE: Final = "timm"
"""What must be installed; a job looks for it before it reads any data."""
FEATURE_MAPS: Final = ("layer4", "stages", "features", "blocks", "layers")
"""Names under which timm's networks make their last feature map."""


def timm_backbone(name: str, *, image_size: int) -> Network:
    """timm's network `name` for images of `image_size` pixels.

    Raises:
        ConfigError: timm is not installed, an unknown name, or a network that does not end in a linear layer.
    """
    timm = _timm()
    known = timm.list_models()
    if name not in known:
        raise ConfigError(f"expected backbone.name to be a network of timm, got {name!r}; {nearest(name, known)}")
    network = _network(timm, name, image_size)
    head = last_linear(network)
    if not any(word in head.partition(".")[0] for word in ("head", "classifier", "fc")):
        raise ConfigError(f"expected a network that ends in a linear layer, but {name} does not; choose another")
    return Network(
        network,
        head=head,
        cam_path=_feature_map(network),
        imagenet=lambda: _imagenet(timm, name, image_size),
    )


def _timm() -> Any:
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise not_installed(PACKAGE, "backbone=timm") from error


def _network(timm: Any, name: str, image_size: int, **options: Any) -> nn.Module:
    try:  # networks of fixed size take it as an argument, the others refuse the argument
        network: nn.Module = timm.create_model(name, img_size=image_size, **options)
    except TypeError:
        network = timm.create_model(name, **options)
    return network


def _feature_map(network: nn.Module) -> str:
    """The module that makes the last feature map; of a network of tokens, the last block's input to its attention.

    What comes after the last block reads the class token alone in many of them: the others have no gradient there.
    """
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and hasattr(blocks[-1], "norm1"):
        return f"blocks.{len(blocks) - 1}.norm1"
    return next((path for path in FEATURE_MAPS if hasattr(network, path)), "")


def _imagenet(timm: Any, name: str, image_size: int) -> State:
    try:
        return dict(_network(timm, name, image_size, pretrained=True).state_dict())
    except Exception as error:  # timm's hub client raises whatever the network provokes
        raise ConfigError(
            f"expected pretrained weights of {name}, but they cannot be fetched: {error}; fetch them on a machine with "
            f"a network, save the state_dict, and give its file as backbone.weights"
        ) from error
