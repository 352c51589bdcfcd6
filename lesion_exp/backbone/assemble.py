"""The steps from a classification network to a `Backbone`, the same for every network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from lesion_exp.backbone.activation import warn_of_activation
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.foreign_weights import Found, find_weights
from lesion_exp.backbone.hub import HUB, hub_weights
from lesion_exp.backbone.network import FeatureExtractor, Network, State
from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions
from lesion_exp.backbone.own_weights import OwnWeights
from lesion_exp.backbone.surgery import (
    insert_attention,
    last_convolution,
    last_linear,
    map_channels,
    replace,
    run_once,
    widen_input,
)
from lesion_exp.backbone.weights import load_into, own_state, read_state
from lesion_exp.errors import ConfigError

log = logging.getLogger(__name__)


def assemble(network: Network | nn.Module, shared: SharedOptions, shape: InputsAndOutputs) -> Backbone:
    """Returns `network` as a backbone: with its weights, input channels and attention, and a head as its last layer.

    Raises:
        ConfigError: `network` is not a network, does not end in a linear layer, or ignores a part of images of this
            size; attention is chosen for a network without feature maps, or metadata fusion without metadata; or the
            weights do not fit.
    """
    known = network if isinstance(network, Network) else _known_of(network)
    _check_size(known, shape)
    module = known.module
    head = last_linear(module) if known.head is None else known.head
    cam_path = last_convolution(module) if known.cam_path is None else known.cam_path
    is_convolutional = not _has_attention(module) if known.is_convolutional is None else known.is_convolutional
    if shared.attention != "none" and not is_convolutional:
        raise ConfigError(
            f"expected a convolutional network for backbone.attention={shared.attention}, got "
            f"{type(module).__name__}, which has attention layers of its own; set backbone.attention=none"
        )
    state = _state(known, shared.weights)
    own = own_state(state) if state is not None else None
    start = None if own is None else OwnWeights(own, _file(shared.weights), shared, shape, head, known.renamed)
    if start is not None:
        start.check_attention(module)
    found = find_weights(state, module.state_dict(), known.renamed) if state is not None and own is None else None
    if found is not None:
        load_into(module, found, head, shared.weights, partial=shared.weights_partial)
        if not shared.weights.startswith("imagenet"):
            warn_of_activation(module, _file(shared.weights))
    widen_input(module, shape.in_channels)
    has_attention = start is not None and shared.attention != "none" and not start.is_for(module)
    if start is not None and not has_attention:
        start.load_body(module)
    if shared.attention != "none":
        channels = map_channels(module, cam_path, shape.in_channels, shape.image_size)
        insert_attention(module, shared.attention, cam_path, channels)
    if start is not None and has_attention:
        start.load_body(module)
    linear = module.get_submodule(head) if head else None
    if head:
        replace(module, head, nn.Identity())
    num_features = _num_features(module, linear, shape, is_checked=known.head is None)
    extractor = FeatureExtractor(module, num_features, is_convolutional=is_convolutional, cam_path=cam_path)
    backbone = Backbone(extractor, shared, shape, head)
    if start is not None:
        start.load_rest(backbone)
    elif found is not None and head:
        _load_head(backbone, found, head)
    if shared.tune == "lora":
        backbone.add_lora()
    return backbone


def _load_head(backbone: Backbone, found: Found, head: str) -> None:
    parts = {key.removeprefix(f"{head}."): value for key, value in found.state.items() if key.startswith(f"{head}.")}
    brings = {key: value.shape for key, value in parts.items()} == _shapes_of(backbone.head)
    if brings:
        backbone.head.load_state_dict(parts)
    log.info(
        "the head (%s) %s",
        head,
        "is that of the file" if brings else "is new, for the classes of this data set",
    )


def _check_size(network: Network, shape: InputsAndOutputs) -> None:
    """Refuses a size of images of which the network ignores a part; one that was trained before is only warned of."""
    if network.wrong_size and not shape.is_trained:
        raise ConfigError(network.wrong_size)
    if network.wrong_size:
        log.warning(
            "warning: the network ignores the right and lower edge of its images of %d pixels, as in its training",
            shape.image_size,
        )


def _known_of(module: object) -> Network:
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"expected the backbone's _target_ to return a torch.nn.Module or a lesion_exp.backbone.network.Network, "
            f"got {type(module).__name__}; return one of these two"
        )
    return Network(module)


def _state(network: Network, weights: str) -> State | None:
    if weights == "none":
        return None
    if weights != "imagenet" and not weights.startswith("imagenet:"):
        return read_state(_file(weights))
    if network.imagenet is None:
        raise ConfigError(
            f"expected backbone.weights to be none, FILE or run:ID for a network without ImageNet weights, got "
            f"{weights}; set backbone.weights=none, or let its function return a lesion_exp.backbone.network.Network "
            f"with the argument imagenet"
        )
    return network.imagenet(weights)


def _file(weights: str) -> Path:
    return Path(hub_weights(weights).file if weights.startswith(HUB) else weights).expanduser()


def _num_features(module: nn.Module, linear: nn.Module | None, shape: InputsAndOutputs, *, is_checked: bool) -> int:
    """Returns the number of features before the head. If the head was only guessed, an image confirms it."""
    expected = getattr(linear, "in_features", None)
    if not is_checked and expected is not None:
        return int(expected)
    features: Tensor = run_once(module, shape.in_channels, shape.image_size)
    if (
        not isinstance(features, Tensor)
        or features.ndim < 2
        or features.flatten(1).shape[1] != (features.shape[1] if expected is None else expected)
    ):
        raise ConfigError(
            f"expected a network that ends in a linear layer, but {type(module).__name__} without its last linear "
            f"layer, which has {expected} inputs, returns {getattr(features, 'shape', type(features).__name__)}; name "
            f"the layer that makes the logits: return lesion_exp.backbone.network.Network(module, head=NAME)"
        )
    return int(features.flatten(1).shape[1])


def _has_attention(module: nn.Module) -> bool:
    return any(
        isinstance(layer, nn.MultiheadAttention) or "Attention" in type(layer).__name__ for layer in module.modules()
    )


def _shapes_of(layer: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in layer.state_dict().items()}
