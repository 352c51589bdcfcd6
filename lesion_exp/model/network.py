"""From a job's config to its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.options import SHARED_KEYS, InputsAndOutputs, SharedOptions
from lesion_exp.config.instantiate import asked_for, instantiate
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.model.inputs import sample_options


def make_network(config: Mapping[str, Any], num_classes: int, encoder: MetadataEncoder | None) -> Backbone:
    """The network that `config` (a whole job's) describes, in its layout in memory."""
    sample = sample_options(config)
    width = encoder.width if encoder else 0
    shape = InputsAndOutputs(num_classes, config["image_size"], sample.in_channels, width, sample.clinical)
    network = make_backbone(config["backbone"], shape)
    return network.to(memory_format=torch.channels_last) if lies_channels_last(config, network) else network


def make_backbone(node: Mapping[str, Any], shape: InputsAndOutputs) -> Backbone:
    """The network that `node` (the key `backbone` of a job) describes, for the inputs and outputs in `shape`.

    The option gets its own keys, and of the number of classes and the size and channels of the images what it asks for;
    the shared keys are applied here to whatever network it returns.
    """
    shared = SharedOptions(**{key: value for key, value in node.items() if key in SHARED_KEYS})
    own = {key: value for key, value in node.items() if key not in SHARED_KEYS}
    offered = {key: getattr(shape, key) for key in ("num_classes", "image_size", "in_channels")}
    return assemble(instantiate(own, "backbone", **asked_for(own, "backbone", offered)), shared, shape)


def resolve_channels_last(value: bool | str, convolutional: bool) -> bool:
    """Whether images and weights lie in memory with the channels last: faster for convolutions."""
    return convolutional if value == "auto" else bool(value)


def lies_channels_last(config: Mapping[str, Any], network: Backbone) -> bool:
    """Whether the weights of `network` lie in memory with the channels last, as `config` (a whole job's) says."""
    return resolve_channels_last(config["trainer"]["channels_last"], network.is_convolutional)
