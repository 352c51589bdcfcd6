"""What every backbone shares: the keys of `conf/backbone/base.yaml`, and what its input and output follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from lesion_exp.choices import ATTENTIONS, METADATA_MODES
from lesion_exp.errors import ConfigError, check_choice


@dataclass(frozen=True)
class SharedOptions:
    """The keys of `conf/backbone` that do not depend on the network.

    Args:
        weights: `none`, `imagenet`, or a file in the network's own format or of this project.
        preprocessing: what the weights were trained with, as `Preprocessing.to_dict` gives it; `augmentation` follows
            it where the config is composed. None: the network starts from random weights, or the job is from before
            this was recorded.
        attention: `none`, `se` or `cbam`; convolutional networks only.
        metadata: `none`, `concat` or `metablock`.
        dropout: share of features dropped before the head.
        freeze_epochs: epochs at the start in which only the head is trained.
        layer_decay: learning rate of a layer over that of the layer above it.
        share_branches: with two views, one network for both instead of two.

    Raises:
        ConfigError: an unknown name or a number out of range.
    """

    weights: str = "none"
    preprocessing: Mapping[str, Any] | None = None
    attention: str = "none"
    metadata: str = "none"
    dropout: float = 0.0
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    share_branches: bool = False

    def __post_init__(self) -> None:
        check_choice("backbone.attention", self.attention, ATTENTIONS)
        check_choice("backbone.metadata", self.metadata, METADATA_MODES)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected backbone.dropout from 0 up to below 1, got {self.dropout}")
        if self.freeze_epochs < 0:
            raise ConfigError(f"expected backbone.freeze_epochs of at least 0, got {self.freeze_epochs}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"expected backbone.layer_decay above 0 up to 1 (none), got {self.layer_decay}")


SHARED_KEYS: Final = frozenset(field.name for field in fields(SharedOptions))


@dataclass(frozen=True)
class InputsAndOutputs:
    """What data and task ask of a network.

    Args:
        num_classes: length of the logits.
        image_size: side of the images in pixels.
        in_channels: 3, or 4 with a mask.
        metadata_width: columns of metadata, 0 = none.
        two_views: whether a clinical photograph comes with each image.
    """

    num_classes: int
    image_size: int
    in_channels: int = 3
    metadata_width: int = 0
    two_views: bool = False
