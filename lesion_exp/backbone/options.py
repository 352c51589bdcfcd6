"""The keys that every backbone shares (`conf/backbone/base.yaml`), and the inputs and outputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Final

from lesion_exp.choices import ATTENTIONS, HEADS, LAST_GROUPS, METADATA_MODES, NONE, TUNES
from lesion_exp.errors import ConfigError, check_choice, did_you_mean

_NAMES_OF_WEIGHTS: Final = (NONE, "imagenet", "imagenet:", "hub:", "run:")
"""Values of `backbone.weights` that are no file, and beginnings of such values."""
_ALIKE: Final = 0.7
"""Least similarity of a misspelt name of weights, from 0 to 1."""


@dataclass(frozen=True)
class KNNOptions:
    """The keys of `backbone.knn`, which `backbone.head=knn` reads.

    Args:
        k: number of training images that vote.
        temperature: temperature of the votes, exp(cosine / temperature).

    Raises:
        ConfigError: a number is out of range.
    """

    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"expected backbone.knn.k of at least 1 neighbour, got {self.k}; 20 is usual")
        if not self.temperature > 0:
            raise ConfigError(f"expected backbone.knn.temperature above 0, got {self.temperature}; 0.07 is usual")


@dataclass(frozen=True)
class LoRAOptions:
    """The keys of `backbone.lora`, which `backbone.tune=lora` reads.

    Args:
        rank: rank of the product of matrices that is added to the weights of a layer.
        alpha: the product is multiplied by alpha / rank.
        dropout: dropout on the inputs of the product in training, in [0, 1).
        layers: the last parts of the names of the layers; None: all layers that can have matrices.

    Raises:
        ConfigError: a number is out of range, or `layers` is not a list of names.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"expected backbone.lora.rank of at least 1, got {self.rank}; 8 is usual")
        if not self.alpha > 0:
            raise ConfigError(f"expected backbone.lora.alpha above 0, got {self.alpha}; twice the rank is usual")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected backbone.lora.dropout from 0 up to below 1, got {self.dropout}; 0.1 is usual")
        named = self.layers
        if named is not None and (isinstance(named, str) or not named or not all(isinstance(n, str) for n in named)):
            raise ConfigError(
                f"expected backbone.lora.layers to be null or a list of names, such as "
                f"backbone.lora.layers=[qkv,proj], got {named!r}"
            )

    @property
    def scaling(self) -> float:
        """The factor of the product of matrices."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class SharedOptions:
    """The keys of `conf/backbone` that do not depend on the network.

    Args:
        weights: `none`, `imagenet`, or a file of this project, of the network's library, or of another library.
        licence: licence of the weights, as their source states it; recorded when the config is composed.
        weights_run: id of the run whose weights `weights` names; recorded when the config is composed.
        weights_partial: whether the layers that fit are loaded from a file in which other layers differ.
        preprocessing: the preprocessing with which the weights were trained, as `Preprocessing.to_dict` returns it;
            `augmentation` gets it when the config is composed. None: the network starts from random weights, or the job
            was made by a version that did not record it.
        attention: `none`, `se` or `cbam`; convolutional networks only.
        metadata: `none`, `concat` or `metablock`.
        head: `linear`, `mlp` (a hidden layer as wide as the features), `cosine` (directions, with a trained scale) or
            `knn` (votes of the nearest training images; nothing is trained).
        knn: the keys that `head=knn` reads.
        dropout: share of features dropped before the head.
        tune: which weights are trained: `full` (all), `head` (those after the body alone), `last:N` (also the last N
            groups of layers of the body), `norms` (also the normalisation layers of the body) or `lora` (matrices of
            low rank that are added to the weights of the body).
        lora: the keys that `tune=lora` reads.
        freeze_epochs: epochs at the start in which only the head is trained.
        layer_decay: ratio of the learning rate of a layer to that of the next layer towards the head.
        share_branches: whether two views have one network instead of two.

    Raises:
        ConfigError: a name is unknown, a number is out of range, or `head=knn` is combined with parts that have to be
            trained.
    """

    weights: str = "none"
    weights_run: str | None = None
    weights_partial: bool = False
    licence: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    attention: str = "none"
    metadata: str = "none"
    head: str = "linear"
    knn: KNNOptions = KNNOptions()
    dropout: float = 0.0
    tune: str = "full"
    lora: LoRAOptions = LoRAOptions()
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    share_branches: bool = False

    def __post_init__(self) -> None:
        check_choice("backbone.attention", self.attention, ATTENTIONS)
        check_choice("backbone.metadata", self.metadata, METADATA_MODES)
        check_choice("backbone.head", self.head, HEADS)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected backbone.dropout from 0 up to below 1, got {self.dropout}; 0.2 is usual")
        if self.freeze_epochs < 0:
            raise ConfigError(f"expected backbone.freeze_epochs of at least 0, got {self.freeze_epochs}; 1 is usual")
        check_tune(self.tune)
        if self.tune == "head" and self.freeze_epochs:
            raise ConfigError(
                f"expected backbone.freeze_epochs=0 with backbone.tune=head, which never trains the body, "
                f"got {self.freeze_epochs}; set backbone.freeze_epochs=0, or backbone.tune=full to train the body later"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"expected backbone.layer_decay above 0 and up to 1, got {self.layer_decay}; 1 gives all layers the "
                f"same learning rate"
            )
        if self.head == "knn":
            self._check_neighbours()

    def _check_neighbours(self) -> None:
        wanted = {
            "backbone.tune=head": self.tune == "head",
            "backbone.metadata=none": self.metadata == NONE,
            "backbone.dropout=0": not self.dropout,
        }
        missing = [override for override, is_met in wanted.items() if not is_met]
        if missing:
            raise ConfigError(
                f"expected a frozen network without dropout and metadata for backbone.head=knn, which trains no "
                f"weights; set {' '.join(missing)}, or use backbone.head=linear"
            )


def shared_options(node: Mapping[str, Any]) -> SharedOptions:
    """Returns the shared keys of `node` (the key `backbone` of a job); jobs of earlier versions lack some of them.

    Raises:
        ConfigError: see `SharedOptions`; or a key of `knn` or `lora` does not exist.
    """
    values = {key: value for key, value in node.items() if key in SHARED_KEYS}
    kinds: dict[str, type[KNNOptions] | type[LoRAOptions]] = {"knn": KNNOptions, "lora": LoRAOptions}
    for name, kind in kinds.items():
        known = [field.name for field in fields(kind)]
        for key in values.get(name, {}):
            if key not in known:
                raise ConfigError(f"expected a key of backbone.{name}, got {key}; the keys are {', '.join(known)}")
        values[name] = kind(**values.get(name, {}))
    return SharedOptions(**values)


def check_tune(value: object) -> None:
    """Checks the value of `backbone.tune`.

    Raises:
        ConfigError: the value is not one of the choices.
    """
    if num_last_groups(value) is None:
        check_choice("backbone.tune", value, TUNES)
    if value == TUNES[-1]:
        raise ConfigError("expected a number for N in backbone.tune=last:N, such as backbone.tune=last:2, got last:N")


def num_last_groups(tune: object) -> int | None:
    """Returns the N of `last:N`; None for every other value."""
    text = str(tune)
    number = text.removeprefix(LAST_GROUPS)
    return int(number) if text != number and number.isascii() and number.isdigit() and int(number) > 0 else None


SHARED_KEYS: Final = frozenset(field.name for field in fields(SharedOptions))


@dataclass(frozen=True)
class InputsAndOutputs:
    """The inputs and outputs of a network that data and task require.

    Args:
        num_classes: length of the logits.
        image_size: side of the images in pixels.
        in_channels: 3, or 4 with a mask.
        metadata_width: number of metadata columns; 0: none.
        two_views: whether a clinical photograph comes with each image.
        classes: names of the classes; empty if they are not known.
        metadata: what the metadata columns are, as `MetadataEncoder.to_dict` says it; None: not known.
        is_trained: whether the network was trained with images of this size, which is then not refused.
    """

    num_classes: int
    image_size: int
    in_channels: int = 3
    metadata_width: int = 0
    two_views: bool = False
    classes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    is_trained: bool = False


def meant_weights(value: str) -> str:
    """Returns what may have been meant by a value of `backbone.weights` that is no file, as the end of a message.

    For example, `; did you mean 'imagenet'?` for `imagnet`; an empty text if it is like no name of weights.
    """
    path = PurePath(value)
    if path.suffix:
        return ""
    name, colon, _ = path.name.partition(":")
    return did_you_mean(f"{name}{colon}".lower(), _NAMES_OF_WEIGHTS, count=1, alike=_ALIKE)
