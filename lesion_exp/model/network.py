"""Builds the network that the config of a job describes, and the classifier that predicts with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.lora import merged_state
from lesion_exp.backbone.options import SHARED_KEYS, InputsAndOutputs, shared_options
from lesion_exp.config.instantiate import asked_for, instantiate
from lesion_exp.config.registered import TARGET
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.image_classifier import ClassifierOptions, ImageClassifier
from lesion_exp.model.inputs import sample_options


def make_network(
    config: Mapping[str, Any],
    num_classes: int,
    encoder: MetadataEncoder | None,
    classes: Sequence[str] = (),
    *,
    is_trained: bool = False,
) -> Backbone:
    """Builds the network that `config` (of a whole job) describes, in the memory layout that it asks for.

    If `classes` is given, the head of initial weights that were trained for other classes is left out. A network
    that `is_trained` gets its weights later; its image size is not refused.
    """
    sample = sample_options(config)
    shape = InputsAndOutputs(
        num_classes,
        config["image_size"],
        sample.in_channels,
        encoder.width if encoder else 0,
        sample.clinical,
        tuple(classes),
        encoder.to_dict() if encoder else None,
        is_trained=is_trained,
    )
    network = make_backbone(config["backbone"], shape)
    return network.to(memory_format=torch.channels_last) if uses_channels_last(config, network) else network


def make_backbone(node: Mapping[str, Any], shape: InputsAndOutputs) -> Backbone:
    """Builds the network that `node` (the key `backbone` of a job) describes, for the inputs and outputs in `shape`.

    The option gets its own keys, and those of `num_classes`, `image_size` and `in_channels` that it has parameters for.
    The shared keys are applied to the network that it returns.
    """
    shared = shared_options(node)
    own = {key: value for key, value in node.items() if key not in SHARED_KEYS}
    offered = {key: getattr(shape, key) for key in ("num_classes", "image_size", "in_channels")}
    return assemble(instantiate(own, "backbone", **asked_for(own, "backbone", offered)), shared, shape)


def library_version(node: Mapping[str, Any]) -> str | None:
    """Returns the library of which `node` (the key `backbone` of a job) chooses a network, with its version.

    Returns None for the networks of this package and of the user. What a network of a library computes from given
    weights may differ between its versions.
    """
    library = str(node[TARGET]).removeprefix("lesion_exp.backbone.").partition(".")[0]
    return f"{library} {version(library)}" if library in ("timm", "torchvision") else None


def merged_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """`node` (the key `backbone` of a job) of a network whose weights come from its checkpoint, LoRA merged into them.

    It needs neither pretrained weights nor peft.
    """
    return {**node, "weights": "none", "tune": "full" if node.get("tune") == "lora" else node.get("tune", "full")}


def merged_weights(state: Mapping[str, Tensor], node: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint with LoRA, of the job's key `backbone`, merged into them.

    Other weights are unchanged.
    """
    return merged_state(state, shared_options(node).lora.scaling)


def uses_channels_last(config: Mapping[str, Any], network: Backbone) -> bool:
    """Returns whether `config` (of a whole job) asks for the memory layout channels last, faster for convolutions."""
    value = config["trainer"]["channels_last"]
    return network.is_convolutional if value == "auto" else bool(value)


def classifier_that_predicts(
    config: Mapping[str, Any], network: Backbone, pipeline: AugmentationPipeline, card: Mapping[str, Any]
) -> ImageClassifier:
    """Returns the classifier of `network`, without loss and optimizer; the `card` names the classes."""
    return ImageClassifier(network, ClassifierOptions(**options_of(config, network, pipeline, card)))


def options_of(
    config: Mapping[str, Any], network: Backbone, pipeline: AugmentationPipeline, card: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields of `ClassifierOptions` for a network of the job `config`; the `card` names the classes."""
    return {
        "classes": tuple(card["classes"]),
        "mean": pipeline.mean,
        "std": pipeline.std,
        "tta": config["evaluation"]["tta"],
        "channels_last": uses_channels_last(config, network),
        "card": card,
    }


def prediction_pipeline(node: Mapping[str, Any]) -> AugmentationPipeline:
    """Returns the pipeline of `node` (the key `augmentation` of a job) without what it does in training alone."""
    if not is_own_pipeline(node):
        node = {**node, "transforms": {}, "mix": None, "device": "cpu", "views": None}
    pipeline: AugmentationPipeline = instantiate(node, "augmentation")
    return pipeline


def is_own_pipeline(node: Mapping[str, Any]) -> bool:
    """Returns whether `node` (the key `augmentation` of a job) names a pipeline of the user's own."""
    return bool(node[TARGET] != f"{AugmentationPipeline.__module__}.{AugmentationPipeline.__qualname__}")
