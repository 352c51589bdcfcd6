"""From a job's config to its network, and to the LightningModule that trains it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torchmetrics import Metric

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.options import SHARED_KEYS, InputsAndOutputs, SharedOptions
from lesion_exp.config.instantiate import asked_for, instantiate, resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.loss.base import Loss, LossFunction
from lesion_exp.model.inputs import sample_options
from lesion_exp.model.precision import resolve_precision
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.task import LesionClassifier, ParameterGroups, TaskOptions


def make_network(config: Mapping[str, Any], num_classes: int, encoder: MetadataEncoder | None) -> Backbone:
    """The network that `config` (a whole job's) describes, in its layout in memory."""
    sample = sample_options(config)
    width = encoder.width if encoder else 0
    shape = InputsAndOutputs(num_classes, config["image_size"], sample.in_channels, width, sample.clinical)
    network = make_backbone(config["backbone"], shape)
    return network.to(memory_format=torch.channels_last) if uses_channels_last(config, network) else network


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


def uses_channels_last(config: Mapping[str, Any], network: Backbone) -> bool:
    """Whether the weights of `network` lie in memory with the channels last, as `config` (a whole job's) says."""
    return resolve_channels_last(config["trainer"]["channels_last"], network.is_convolutional)


OPTIMIZER_COMMON_KEYS: Final = frozenset({"decay_norms_and_biases"})
NUM_LOSS_ARGUMENTS: Final = 2


def make_loss(node: Mapping[str, Any], class_counts: Sequence[int]) -> Loss:
    """The loss that `node` (the key `loss` of a job) describes: a `Loss`, or any callable `(logits, labels) -> scalar`.

    A class gets `class_counts` where it asks for them. A function with two parameters that the node does not set, its
    logits and its labels, is the loss itself.
    """
    offered = {"class_counts": list(class_counts)}
    target, own = resolve_target(node[TARGET], "loss"), {key: node[key] for key in node if key != TARGET}
    if inspect.isfunction(target):
        left = [name for name in inspect.signature(target).parameters if name not in {*own, *offered}]
        if len(left) >= NUM_LOSS_ARGUMENTS:
            loss = functools.partial(target, **own, **asked_for(node, "loss", offered))
            return LossFunction(loss, class_counts)
    made = instantiate(node, "loss", **asked_for(node, "loss", offered))
    return made if isinstance(made, Loss) else LossFunction(made, class_counts)


def make_classifier(
    config: Mapping[str, Any],
    network: Backbone,
    pipeline: AugmentationPipeline,
    card: Mapping[str, Any],
    class_counts: Sequence[int],
    validation_ids: Sequence[str] = (),
    added: Mapping[str, Metric] | None = None,
) -> LesionClassifier:
    """`network` with all that a Trainer needs of it; the classes are those of the `card`."""
    return LesionClassifier(
        network,
        make_loss(config["loss"], class_counts),
        pipeline.mix if pipeline.mix is not None and pipeline.mix.is_active else None,
        TaskOptions(
            classes=tuple(card["classes"]),
            mean=pipeline.mean,
            std=pipeline.std,
            image_size=pipeline.image_size,
            lr=float(config["optimizer"]["lr"]),
            seed=config["seed"],
            tta=config["evaluation"]["tta"],
            channels_last=uses_channels_last(config, network),
            decay_norms_and_biases=config["optimizer"]["decay_norms_and_biases"],
            card=card,
        ),
        make_optimizer(config["optimizer"], fuse=_may_fuse(config["trainer"])),
        make_schedule(config["scheduler"]),
        validation_ids,
        added,
    )


def _may_fuse(trainer: Mapping[str, Any]) -> bool:
    """Whether one kernel may do a whole step; with fp16 it also unscales, which Lightning's clipping does not allow."""
    return resolve_precision(trainer["precision"], trainer["accelerator"]) != "16-mixed"


def make_optimizer(node: Mapping[str, Any], *, fuse: bool) -> Callable[[ParameterGroups, float], Optimizer]:
    """What makes the optimizer that `node` describes, of parameter groups and a learning rate."""

    def make(groups: ParameterGroups, lr: float) -> Optimizer:
        own = {key: value for key, value in node.items() if key not in OPTIMIZER_COMMON_KEYS}
        on_cpu_or_gpu = all(weights.device.type in {"cpu", "cuda"} for group in groups for weights in group["params"])
        if (
            fuse
            and on_cpu_or_gpu
            and "fused" in inspect.signature(resolve_target(node["_target_"], "optimizer")).parameters
        ):
            own = {"fused": True, **own}
        optimizer: Optimizer = instantiate({**own, "lr": lr}, "optimizer", params=groups)
        return optimizer

    return make


def make_schedule(node: Mapping[str, Any]) -> Callable[[Optimizer, float, int], Schedule]:
    """What makes the schedule that `node` describes, of an optimizer, all steps and the steps of an epoch."""

    def make(optimizer: Optimizer, total_steps: float, steps_per_epoch: int) -> Schedule:
        schedule: Schedule = instantiate(
            node, "scheduler", optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        return schedule

    return make
