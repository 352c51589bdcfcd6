"""Any classification network of timm, by name; needs the extra `timm`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from torch import nn

from lesion_exp.backbone.class_token import is_class_token
from lesion_exp.backbone.network import Network, State, not_a_multiple
from lesion_exp.backbone.packaged_weights import (
    PACKAGED,
    PACKAGED_LICENCE,
    from_efficientnet_pytorch,
    is_efficientnet_pytorch,
    packaged_state,
)
from lesion_exp.backbone.preprocessing import Preprocessing, of_timm_config
from lesion_exp.backbone.surgery import last_linear
from lesion_exp.errors import ConfigError, nearest, not_installed

PACKAGE: Final = "timm"
"""The required package; a job checks that it is installed before it reads any data."""
FEATURE_MAPS: Final = ("layer4", "stages", "features", "blocks", "layers")
"""Names of the modules that make the last feature map of timm's networks."""


def timm_backbone(name: str, *, image_size: int) -> Network:
    """Returns timm's network `name` for images of `image_size` pixels.

    `resnet50` names a network with the weights that timm uses by default, `resnet50.a1_in1k` the weights as well.

    Raises:
        ConfigError: timm is not installed, the name is unknown, or the network does not end in a linear layer.
    """
    timm = _timm()
    _check_name(timm, name)
    network = _network(timm, name, image_size)
    head = last_linear(network)
    if not any(word in head.partition(".")[0] for word in ("head", "classifier", "fc")):
        raise ConfigError(f"expected a network that ends in a linear layer, but {name} does not; choose another")
    return Network(
        network,
        head=head,
        cam_path=_feature_map(network),
        imagenet=lambda _: _imagenet(timm, name, image_size),
        renamed=lambda state: _renamed(state, network),
        wrong_size=_wrong_size(network, name, image_size),
    )


def weights_preprocessing(node: Mapping[str, Any], weights: str) -> Preprocessing | None:
    """Returns the preprocessing of `weights` (`imagenet` or a file) of the network `name` in `node`.

    A file with the name of a file that timm's authors or the authors of its weights published has its preprocessing, if
    `name` does not itself name the weights. Any other file is assumed to have that of timm's entry `name`.

    Raises:
        ConfigError: timm is not installed, the name is unknown, or `weights` names an entry.
    """
    timm, name = _timm(), str(node["name"])
    _check_name(timm, name)
    _check_entry(timm, name, weights)
    known = _published(timm, name, weights) or timm.get_pretrained_cfg(name)
    return None if known is None else of_timm_config(asdict(known))


def assumed_entry(node: Mapping[str, Any], weights: str) -> str | None:
    """Returns the name of the weights of timm whose preprocessing the file `weights` is assumed to have.

    Returns None for ImageNet weights, and for files whose preprocessing is known (see `weights_preprocessing`).
    """
    timm, name = _timm(), str(node["name"])
    if weights.startswith("imagenet") or "." in name or _published(timm, name, weights) is not None:
        return None
    known = timm.get_pretrained_cfg(name)
    return ".".join(filter(None, (name, None if known is None else known.tag)))


def weights_licence(node: Mapping[str, Any], weights: str) -> str | None:
    """Returns the licence that timm states of the ImageNet weights of the network `name` in `node`, or of the file
    `weights` that has the name of a published file; None for other files.
    """
    name, is_imagenet = str(node["name"]), weights.startswith("imagenet")
    if is_imagenet and name.partition(".")[0] in PACKAGED:
        return PACKAGED_LICENCE
    if not is_imagenet and importlib.util.find_spec(PACKAGE) is None:
        return None
    timm = _timm()
    _check_name(timm, name)
    known = timm.get_pretrained_cfg(name) if is_imagenet else _published(timm, name, weights)
    return None if known is None or known.license is None else str(known.license)


def _published(timm: Any, name: str, weights: str) -> Any:
    """Returns timm's entry of the weights that were published in a file with the name of the file `weights`.

    Returns None if there is no such entry, if several have different preprocessing or licences, or if `name` names the
    weights.
    """
    if weights.startswith("imagenet") or "." in name:
        return None
    file, found = Path(weights).name, []
    for entry in (name, *timm.list_models(f"{name}.*", pretrained=True)):
        known = timm.get_pretrained_cfg(entry)
        places = () if known is None else (known.url, known.file)
        if any(str(place).rpartition("/")[2] == file for place in places):
            found.append(known)
    facts = [(of_timm_config(asdict(known)), known.license) for known in found]
    return found[0] if facts and all(other == facts[0] for other in facts) else None


def _check_entry(timm: Any, name: str, weights: str) -> None:
    """Refuses the name of an entry after `imagenet:`, since timm names the weights together with the network."""
    architecture, entry = name.partition(".")[0], weights.removeprefix("imagenet:")
    if entry == weights:
        return
    known, meant = timm.list_models(f"{architecture}.*", pretrained=True), f"{architecture}.{entry}"
    remedy = f"set backbone.name={meant} backbone.weights=imagenet" if meant in known else nearest(meant, known)
    raise ConfigError(
        f"expected backbone.weights=imagenet for a network of timm, where backbone.name={architecture}.NAME chooses "
        f"among several weights, got {weights}; {remedy}"
    )


def _check_name(timm: Any, name: str) -> None:
    if timm.is_model_pretrained(name):  # listing all names takes longer
        return
    known = timm.list_models() if "." not in name else timm.list_models(pretrained=True)
    if name not in known:
        raise ConfigError(f"expected backbone.name to be a network of timm, got {name!r}; {nearest(name, known)}")


def _wrong_size(network: nn.Module, name: str, image_size: int) -> str:
    """Returns the message that refuses a size of which a network of patches would ignore the right and lower edge."""
    for module in network.modules():
        is_checked = "PatchEmbed" in type(module).__name__ and hasattr(module, "strict_img_size")
        if is_checked and not getattr(module, "dynamic_img_pad", False):
            sides: Any = module.patch_size
            if text := not_a_multiple(max(sides), name, image_size):
                return text
    return ""


def _renamed(state: State, network: nn.Module) -> State:
    """Returns `state` as timm itself reads files of weights: positions resized, names of its sources and older
    releases.
    """
    if is_efficientnet_pytorch(state):
        return from_efficientnet_pytorch(state, network.state_dict())
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    with contextlib.redirect_stdout(io.StringIO()):  # timm prints each bias for which the network has no place
        return {**convert(dict(state), network), **_lost_biases(state, network)}


def _lost_biases(state: State, network: nn.Module) -> State:
    """Returns the biases of queries and values in Meta's file of DINOv3 which timm leaves out without an error.

    timm has each of these networks with and without them; those of some published files are all zero. Keys have none.
    """
    expected = network.state_dict()
    return {
        name: bias
        for name, bias in state.items()
        if "storage_tokens" in state
        and name not in expected
        and name.endswith(".attn.qkv.bias")
        and f"{name.removesuffix('qkv.bias')}q_bias" not in expected
        and any(part.any() for part in (bias.chunk(3)[0], bias.chunk(3)[2]))
    }


def _timm() -> Any:
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise not_installed(PACKAGE, "backbone=timm") from error


def _network(timm: Any, name: str, image_size: int, **options: Any) -> nn.Module:
    if is_class_token(name):
        options["global_pool"] = "token"  # timm's default is the mean over the patches
    try:  # networks of fixed size take it as an argument, the others refuse the argument
        network: nn.Module = timm.create_model(name, img_size=image_size, **options)
    except TypeError:
        network = timm.create_model(name, **options)
    if not getattr(network, "num_classes", 1):
        network.reset_classifier(1)  # type: ignore[operator]  # an encoder without a head gets one
    return network


def _feature_map(network: nn.Module) -> str:
    """Returns the module that makes the last feature map; in a transformer, the input to the last block's attention.

    After the last block many transformers read the class token alone, so that the other tokens have no gradient there.
    """
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and hasattr(blocks[-1], "norm1"):
        return f"blocks.{len(blocks) - 1}.norm1"
    return next((path for path in FEATURE_MAPS if hasattr(network, path)), "")


def _imagenet(timm: Any, name: str, image_size: int) -> State:
    architecture, _, entry = name.partition(".")
    if architecture in PACKAGED and entry in ("", "in1k"):
        return packaged_state(architecture)
    try:
        return dict(_network(timm, name, image_size, pretrained=True).state_dict())
    except Exception as error:  # timm's hub client raises whatever the network provokes
        raise ConfigError(
            f"expected pretrained weights of {name}, but they cannot be fetched: {error}; fetch them on a machine with "
            f"a network, save the state_dict, and give its file: backbone.weights=FILE"
        ) from error
