"""What every backbone shares: the keys of `conf/backbone/base.yaml`, and what its input and output follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from lesion_exp.choices import ATTENTIONS, HEADS, LAST_GROUPS, METADATA_MODES, TUNES
from lesion_exp.errors import ConfigError, check_choice


@dataclass(frozen=True)
class SharedOptions:
    """The keys of `conf/backbone` that do not depend on the network.

    Args:
        weights: `none`, `imagenet`, or a file of this project, of the network's library, or of another.
        licence: of the weights, as their source states it; recorded where the config is composed.
        weights_partial: whether what fits is taken from a file of which other layers differ.
        preprocessing: what the weights were trained with, as `Preprocessing.to_dict` gives it; `augmentation` follows
            it where the config is composed. None: the network starts from random weights, or the job is from before
            this was recorded.
        attention: `none`, `se` or `cbam`; convolutional networks only.
        metadata: `none`, `concat` or `metablock`.
        head: `linear`, `mlp` (a hidden layer as wide as the features) or `cosine` (directions, with a trained scale).
        dropout: share of features dropped before the head.
        tune: which weights are trained: `full` (all), `head` (those after the body alone), `last:N` (also the last N
            groups of layers of the body) or `norms` (also the normalisation layers of the body).
        freeze_epochs: epochs at the start in which only the head is trained.
        layer_decay: learning rate of a layer over that of the layer above it.
        share_branches: with two views, one network for both instead of two.

    Raises:
        ConfigError: an unknown name or a number out of range.
    """

    weights: str = "none"
    weights_partial: bool = False
    licence: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    attention: str = "none"
    metadata: str = "none"
    head: str = "linear"
    dropout: float = 0.0
    tune: str = "full"
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    share_branches: bool = False

    def __post_init__(self) -> None:
        check_choice("backbone.attention", self.attention, ATTENTIONS)
        check_choice("backbone.metadata", self.metadata, METADATA_MODES)
        check_choice("backbone.head", self.head, HEADS)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected backbone.dropout from 0 up to below 1, got {self.dropout}")
        if self.freeze_epochs < 0:
            raise ConfigError(f"expected backbone.freeze_epochs of at least 0, got {self.freeze_epochs}")
        check_tune(self.tune)
        if self.tune == "head" and self.freeze_epochs:
            raise ConfigError(
                f"expected backbone.freeze_epochs=0 with backbone.tune=head, which never trains the body, "
                f"got {self.freeze_epochs}; set backbone.freeze_epochs=0, or backbone.tune=full to train the body later"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"expected backbone.layer_decay above 0 up to 1 (none), got {self.layer_decay}")


def check_tune(value: object) -> None:
    """Checks the value of `backbone.tune`.

    Raises:
        ConfigError: it is none of the choices.
    """
    if num_last_groups(value) is None:
        check_choice("backbone.tune", value, TUNES)
    if value == TUNES[-1]:
        raise ConfigError("expected a number for N in backbone.tune=last:N, such as backbone.tune=last:2, got last:N")


def num_last_groups(tune: object) -> int | None:
    """The N of `last:N`; None for every other value."""
    text = str(tune)
    number = text.removeprefix(LAST_GROUPS)
    return int(number) if text != number and number.isascii() and number.isdigit() and int(number) > 0 else None


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
