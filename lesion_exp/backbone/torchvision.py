"""Any classification network of torchvision, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import nn

from lesion_exp.backbone.network import Network, State, not_a_multiple
from lesion_exp.backbone.preprocessing import Preprocessing
from lesion_exp.backbone.surgery import last_linear
from lesion_exp.backbone.weights import imagenet_file, read_state
from lesion_exp.backbone.without_compiler import torchvision_library
from lesion_exp.errors import ConfigError, nearest

WITH_AUXILIARY: Final = ("inception_v3", "googlenet")
"""Networks with auxiliary outputs, which are removed, so that they return logits alone."""
WITHOUT_LINEAR: Final = ("squeezenet",)
SWINS_PATCH: Final = 4
"""Side of the patches of torchvision's Swin transformers in pixels."""
SMALLEST: Final = {"inception_v3": 75, "alexnet": 63, "vgg": 32}
"""Smallest sides of images in pixels, for networks that need more than 32."""
FEATURE_MAPS: Final = ("layer4", "features", "trunk_output", "conv5", "layers", "Mixed_7c", "inception5b", "blocks")
"""Names of the modules that make the last feature map of torchvision's networks."""


ENTRY: Final = "imagenet:"
"""Prefix of the name of an entry of torchvision other than its default: `imagenet:IMAGENET1K_V1`."""
INCEPTIONS: Final = (0.5, 0.5, 0.5)
"""Mean and deviation of `WITH_AUXILIARY`: torchvision's own networks turn ImageNet's normalisation into this one inside
(`transform_input`); ours are given what their first convolution expects."""


def torchvision_backbone(name: str, *, image_size: int) -> Network:
    """Returns the network `name` of `torchvision.models.list_models` for images of `image_size` pixels.

    Raises:
        ConfigError: the name is unknown, or the network cannot process images of this size.
    """
    _check_name(name)
    _check_size(name, image_size)
    module = _network(name, image_size)
    return Network(
        module,
        head=last_linear(module),
        cam_path=_feature_map(module, name),
        imagenet=lambda weights: read_state(imagenet_file(_entry(name, weights).url)),
        renamed=lambda state: _renamed(state, name, image_size),
        wrong_size=not_a_multiple(SWINS_PATCH, name, image_size) if name.startswith("swin_") else "",
    )


def _check_name(name: str) -> None:
    torchvision = torchvision_library()
    known = list(torchvision.models.list_models(module=torchvision.models))
    usable = [known for known in known if not known.startswith(WITHOUT_LINEAR)]
    if name not in usable:
        raise ConfigError(
            f"expected backbone.name to be a classification network of torchvision, got {name!r}; "
            f"{nearest(name, usable)}"
        )


def _check_size(name: str, image_size: int) -> None:
    least = next((size for start, size in SMALLEST.items() if name.startswith(start)), 32)
    if image_size < least:
        raise ConfigError(
            f"expected image_size of at least {least} pixels for {name}, got {image_size}; set image_size={least}"
        )
    if name.startswith("vit_") and (text := not_a_multiple(int(name.rpartition("_")[2]), name, image_size)):
        raise ConfigError(text)
    if name.startswith("maxvit") and image_size % 224:
        raise ConfigError(
            f"expected image_size to be a multiple of 224 for {name}, got {image_size}; set image_size=224 or 448"
        )


def _network(name: str, image_size: int) -> nn.Module:
    torchvision = torchvision_library()
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    if name in WITH_AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return network


def _renamed(state: State, name: str, image_size: int) -> State:
    state = {key: value for key, value in state.items() if not key.startswith(("AuxLogits.", "aux1.", "aux2."))}
    if name.startswith("vit_") and "encoder.pos_embedding" in state:
        from torchvision.models.vision_transformer import interpolate_embeddings

        patch = int(name.rpartition("_")[2])
        state = dict(interpolate_embeddings(image_size, patch, state))
    if name.startswith("densenet"):
        state = {_modern_densenet_key(key): value for key, value in state.items()}
    return state


def weights_preprocessing(node: Mapping[str, Any], weights: str) -> Preprocessing:
    """Returns the preprocessing of `weights` (`imagenet`, `imagenet:ENTRY` or a file) of the network `name` in `node`.

    A file with the name of a file of torchvision has its preprocessing. Any other file is assumed to have that of
    torchvision's default entry.
    """
    name = str(node["name"])
    _check_name(name)
    shown = _entry(name, weights).transforms()
    side, short_side = shown.crop_size[0], shown.resize_size[0]
    mean, std = (INCEPTIONS, INCEPTIONS) if name in WITH_AUXILIARY else (shown.mean, shown.std)
    return Preprocessing(mean, std, shown.interpolation.value, min(side / short_side, 1.0), side)


def assumed_entry(node: Mapping[str, Any], weights: str) -> str | None:
    """Returns the entry of torchvision whose preprocessing the file `weights` is assumed to have.

    Returns None for ImageNet weights, and for a file with the name of a file of torchvision.
    """
    name = str(node["name"])
    if weights.startswith("imagenet") or _is_published(name, weights):
        return None
    return str(_entry(name, weights))


def weights_licence(node: Mapping[str, Any], weights: str) -> str | None:
    """Returns the licence of the ImageNet weights `weights` of the network `name` in `node`, or of a file with the name
    of a file of torchvision; None for other files.

    torchvision states a licence for few entries; the package itself is under BSD-3-Clause.
    """
    name = str(node["name"])
    _check_name(name)
    if not weights.startswith("imagenet") and not _is_published(name, weights):
        return None
    stated = _entry(name, weights).meta.get("license")
    return str(stated) if stated else "not stated by torchvision (bsd-3-clause)"


def _entry(name: str, weights: str) -> Any:
    """Returns the entry of torchvision's enum that `weights` names.

    Raises:
        ConfigError: there is no entry of that name.
    """
    torchvision = torchvision_library()
    entries = torchvision.models.get_model_weights(name)
    if weights.startswith(ENTRY):
        known = {entry.name: entry for entry in entries}
        if weights.removeprefix(ENTRY) not in known:
            raise ConfigError(
                f"expected an entry of torchvision after {ENTRY} for {name}, got {weights.removeprefix(ENTRY)!r}; "
                f"{nearest(weights.removeprefix(ENTRY), known)}"
            )
        return known[weights.removeprefix(ENTRY)]
    return next((entry for entry in entries if _file_of(entry) == Path(weights).name), entries.DEFAULT)


def _is_published(name: str, weights: str) -> bool:
    """Returns whether torchvision has weights of the network `name` in a file with the name of the file `weights`."""
    return _file_of(_entry(name, weights)) == Path(weights).name


def _file_of(entry: Any) -> str:
    return str(entry.url).rpartition("/")[2]


def _modern_densenet_key(key: str) -> str:
    """Returns today's name of a tensor in torchvision's old file of DenseNet: `norm1.weight` for `norm.1.weight`."""
    for part in ("norm", "relu", "conv"):
        for number in "12":
            key = key.replace(f".{part}.{number}.", f".{part}{number}.")
    return key


def _feature_map(network: nn.Module, name: str) -> str:
    if name.startswith("vit_"):
        return f"encoder.layers.{list(dict(network.get_submodule('encoder.layers').named_children()))[-1]}.ln_1"
    return next(path for path in FEATURE_MAPS if hasattr(network, path))
