"""The networks whose features are their class token. Jobs are hashed without torch, so it is not imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import nn

CLASS_TOKEN: Final = "class_token"
"""Key of a card: whether the features of the network are its class token. Cards of earlier versions lack it."""
_TARGET: Final = "lesion_exp.backbone.timm.timm_backbone"
_NAMES: Final = "_dinov3"
"""In the names of networks whose features, as their authors use them, are the class token (Siméoni et al. 2025,
arXiv:2508.10104), where timm's default is the mean over the patches."""


def is_class_token(name: str) -> bool:
    """Returns whether the features of timm's network `name` are its class token in place of timm's default."""
    return _NAMES in name.partition(".")[0]


def gives_class_token(node: Mapping[str, Any]) -> bool:
    """Returns whether `node` (the key `backbone` of a job) chooses such a network."""
    return node.get("_target_") == _TARGET and is_class_token(str(node.get("name", "")))


def give_mean(network: nn.Module) -> None:
    """Makes the features of `network` the mean over the patches, with which earlier versions trained it."""
    for module in network.modules():
        if getattr(module, "global_pool", None) == "token":
            module.global_pool = "avg"  # type: ignore[assignment]
