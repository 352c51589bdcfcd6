"""Whether a network has the activation with which the weights of a CLIP model were trained.

OpenAI's CLIP, and models that were trained from it such as MONET, use x sigmoid(1.702 x) instead of the exact GELU. The
tensors of both have the same names, so that only a file beside the weights can say which they need.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import nn

log = logging.getLogger(__name__)

QUICK: Final = "quick_gelu"
_OF_CLIP: Final = ("clip", "clip_vision_model")


def warn_of_activation(network: nn.Module, file: Path) -> None:
    """Logs a warning if `network` has GELU, and a file beside the weights states the quick one, or vice versa."""
    said, has = _said_beside(file), _activation_of(network)
    if said is None or has is None or said == has:
        return
    names = "with _clip_quickgelu_ in its name" if said == QUICK else "without quickgelu in its name"
    log.warning(
        "the weights %s were trained with the activation %s, as a file beside them says, but the network has %s, with "
        "which its outputs are others; choose one of timm's networks %s, such as backbone.name=vit_large_patch14_clip_"
        "%s224",
        file.name,
        said,
        has,
        names,
        "quickgelu_" if said == QUICK else "",
    )


def _activation_of(network: nn.Module) -> str | None:
    names = {type(module).__name__ for module in network.modules()}
    return QUICK if "QuickGELU" in names else "gelu" if "GELU" in names else None


def _said_beside(file: Path) -> str | None:
    for name, read in (("open_clip_config.json", _of_open_clip), ("config.json", _of_transformers)):
        try:
            content = json.loads((file.parent / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        said = read(content) if isinstance(content, Mapping) else None
        if said is not None:
            return said
    return None


def _of_open_clip(content: Mapping[str, Any]) -> str | None:
    model = content.get("model_cfg")
    if not isinstance(model, Mapping):
        return None
    return QUICK if model.get("quick_gelu", False) else "gelu"


def _of_transformers(content: Mapping[str, Any]) -> str | None:
    if content.get("model_type") not in _OF_CLIP:
        return None
    vision = content.get("vision_config", content)
    return str(vision.get("hidden_act", QUICK)) if isinstance(vision, Mapping) else None
