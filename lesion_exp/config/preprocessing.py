"""Resolves the preprocessing keys of `augmentation` that are null to those of the backbone's pretrained weights."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from lesion_exp.backbone.hub import HUB, NOT_STATED, hub_weights, licence_in
from lesion_exp.backbone.preprocessing import (
    IMAGENET,
    Preprocessing,
    said_beside,
    said_in_header,
    share_of_side,
    three_values,
)
from lesion_exp.backbone.weights_card import card_of
from lesion_exp.choices import OF_TRAINING
from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError

log = logging.getLogger(__name__)

NATIVE: Final = "native"
"""The value of `image_size` for the size of the images with which the weights were trained."""
STATISTICS: Final = ("mean", "std")
_OWN: Final = "lesion_exp.backbone."
_OF_LIBRARIES: Final = (f"{_OWN}torchvision.", f"{_OWN}timm.")
"""Beginnings of the targets of networks that come from a library, with its ImageNet weights."""


def resolve_preprocessing(config: DictConfig, start: Path) -> None:
    """Sets the keys of `config` that are null to the preprocessing with which the backbone's weights were trained.

    `backbone.preprocessing` then has everything that is known of the weights, and `augmentation` has the values that
    are applied. Both are part of the job. Nothing heavy is imported for a network with random weights.

    Args:
        config: the composed config.
        start: the folder at which a relative path of the weights starts.

    Raises:
        ConfigError: a value is out of range, or the weights cannot be read.
    """
    node = OmegaConf.to_container(config["backbone"], resolve=True)
    assert isinstance(node, dict), "a group is a mapping"
    source, licence = _source(str(node.get("weights", "none")))
    if licence is not None:
        OmegaConf.update(config, "backbone.weights", source, force_add=True)
        OmegaConf.update(config, "backbone.licence", node.get("licence") or licence, force_add=True)
    elif node.get("licence") is None and (stated := _licence_of(node, source, start)) is not None:
        OmegaConf.update(config, "backbone.licence", stated, force_add=True)
    wanted, is_assumed = _wanted({**{str(key): value for key, value in node.items()}, "weights": source}, start)
    if wanted is not None:
        OmegaConf.update(config, "backbone.preprocessing", wanted.to_dict(), force_add=True)
    if config.get("image_size") == NATIVE:
        if wanted is None or wanted.size is None:
            raise ConfigError(
                f"expected weights that state a size for image_size={NATIVE}, got weights without one; set "
                f"image_size=224, for example"
            )
        config["image_size"] = wanted.size
    fill_augmentation(config["augmentation"], wanted or IMAGENET)
    if wanted is not None:
        _say(wanted, int(config["image_size"]), is_assumed=is_assumed)


def fill_augmentation(augmentation: DictConfig, wanted: Preprocessing) -> None:
    """Sets the keys of `augmentation` that are null to the values in `wanted`.

    Raises:
        ConfigError: the value of another key is out of range.
    """
    for key in STATISTICS:
        if key not in augmentation:
            continue  # a pipeline of the user's own
        value = augmentation[key]
        if value is None:
            augmentation[key] = list(getattr(wanted, key))
        elif value != OF_TRAINING:
            three_values(f"augmentation.{key}", OmegaConf.to_container(value) if OmegaConf.is_list(value) else value)
    if "interpolation" in augmentation and augmentation["interpolation"] is None:
        augmentation["interpolation"] = wanted.interpolation
    if "crop_share" in augmentation and augmentation["crop_share"] is None:
        # with other values of `fit` the user wants to see the whole image
        augmentation["crop_share"] = wanted.crop_share if augmentation.get("fit") == "crop" else 1.0
    share_of_side("augmentation.crop_share", augmentation.get("crop_share", 1.0))


def _source(weights: str) -> tuple[str, str | None]:
    """Returns `weights`, with the commit if they are from the hub, and then the licence that the hub states."""
    if not weights.startswith(HUB):
        return weights, None
    found = hub_weights(weights)
    _say_licence(found.spec, found.licence)
    return found.spec, found.licence


def _wanted(node: Mapping[str, Any], start: Path) -> tuple[Preprocessing | None, bool]:
    """Returns the preprocessing of the weights in the node `backbone`, None for random weights, and whether mean and
    deviation are only assumed.
    """
    weights, said = node.get("weights", "none"), node.get("preprocessing")
    if said is not None and not isinstance(said, Mapping):
        raise ConfigError(
            f"expected keys below backbone.preprocessing, got {said!r}; for example backbone.preprocessing="
            f"'{{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}'"
        )
    if weights == "none":
        return None if said is None else IMAGENET.changed(said), False
    found, assumed = _of_weights(node, str(weights), start)
    is_assumed = assumed is not None and not set(STATISTICS) <= set(said or {})
    if is_assumed:
        _say_unknown(str(weights), str(assumed))
    return found.changed(said or {}), is_assumed


def _of_weights(node: Mapping[str, Any], weights: str, start: Path) -> tuple[Preprocessing, str | None]:
    """Returns the preprocessing of weights, and whose it is if the weights themselves do not state any."""
    is_hub = weights.startswith(HUB)
    path = hub_weights(weights).file if is_hub else _absolute(weights, start)
    if path.is_file():  # otherwise the file may be on the machine where the job will run
        found = said_in_header(path) or _in_checkpoint(path) or said_beside(path)
        if found is not None:
            return found, None
    _check_has_imagenet(str(node[TARGET]), weights)
    named = str(path) if is_hub else weights
    of_library = _of_library("weights_preprocessing", node, named)
    if of_library is None:
        return IMAGENET, "most ImageNet weights"
    return of_library, _of_library("assumed_entry", node, named)


def _of_library(function: str, node: Mapping[Any, Any], weights: str) -> Any:
    """Returns what the `function` of the module that makes the network says of its weights; None if it has none."""
    target = resolve_target(str(node[TARGET]), "backbone")
    asked = getattr(sys.modules[target.__module__], function, None)
    return None if asked is None else asked(node, weights)


def _check_has_imagenet(target: str, weights: str) -> None:
    """Refuses ImageNet weights of a network of this package itself, for which there are none, before data are read."""
    is_own = target.startswith(_OWN) and not target.startswith(_OF_LIBRARIES)
    if is_own and weights.startswith("imagenet"):
        name = target.rpartition(".")[2]
        raise ConfigError(
            f"expected backbone.weights to be none, FILE or run:ID for backbone={name}, which has no ImageNet weights, "
            f"got {weights}; choose a network that has them, such as backbone=efficientnet_lite0, or leave "
            f"backbone.weights out"
        )


def _licence_of(node: Mapping[Any, Any], weights: str, start: Path) -> str | None:
    """Returns the licence of ImageNet weights, or of a file of weights; None if it is not known.

    The licence of a file is the one in its own card, which that of a run inherits from the weights that the run began
    with; else the one in a README.md beside the file; else that of the library that published a file of this name.
    """
    if weights.startswith("imagenet"):
        stated: str | None = _of_library("weights_licence", node, weights)
        return stated
    path = _absolute(weights, start)
    if not path.is_file():
        return None
    if card := card_of(path):
        began = card.get("pretrained")
        said = began.get("licence") if isinstance(began, Mapping) else None
        stated = str(said) if said else None
    else:
        beside = licence_in(path.parent)
        stated = beside if beside != NOT_STATED else _of_library("weights_licence", node, str(path))
    if stated is not None and not stated.startswith(NOT_STATED):
        run_id = node.get("weights_run")
        _say_licence(f"run {run_id}" if run_id else weights, stated)
    return stated


def _absolute(weights: str, start: Path) -> Path:
    return (start / Path(weights).expanduser()).absolute()


def _in_checkpoint(path: Path) -> Preprocessing | None:
    from lesion_exp.backbone.weights import said_by_checkpoint

    return said_by_checkpoint(path)


@functools.cache
def _say(wanted: Preprocessing, image_size: int, *, is_assumed: bool) -> None:
    """Logs the preprocessing once in a process, because the cells of a sweep are composed one after another."""
    size = f", at {wanted.size} pixels (image_size={image_size})" if wanted.size else ""
    log.info(
        "the weights %s trained with mean %s, deviation %s, %s, %.3g of the short side%s",
        "are assumed to have been" if is_assumed else "were",
        [round(value, 3) for value in wanted.mean],
        [round(value, 3) for value in wanted.std],
        wanted.interpolation,
        wanted.crop_share,
        size,
    )


@functools.cache
def _say_licence(weights: str, licence: str) -> None:
    log.warning(
        "%s has the licence %s. A network that is trained from these weights may fall under it; read the licence "
        "before you pass on a checkpoint or an export",
        weights,
        licence,
    )


@functools.cache
def _say_unknown(weights: str, assumed: str) -> None:
    log.warning(
        "the preprocessing of %s is not known, so that of %s is assumed; if another is right, set "
        "backbone.preprocessing='{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}'",
        weights,
        assumed,
    )
