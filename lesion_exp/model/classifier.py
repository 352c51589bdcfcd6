"""Builds the LightningModule that trains a network: with the loss, the optimizer and the schedule of a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from torch.optim import Optimizer
from torchmetrics import Metric

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.config.instantiate import asked_for, instantiate, resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.loss.base import Loss, LossFunction
from lesion_exp.model.logistic_probe import LogisticProbe
from lesion_exp.model.network import options_of
from lesion_exp.model.precision import resolve_precision
from lesion_exp.model.probe import NeighbourProbe
from lesion_exp.optimizer.logistic_path import LogisticPath
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.task import LesionClassifier, ParameterGroups, TaskOptions

OPTIMIZER_COMMON_KEYS: Final = frozenset({"decay_norms_and_biases"})
NUM_LOSS_ARGUMENTS: Final = 2


def make_loss(node: Mapping[str, Any], class_counts: Sequence[int]) -> Loss:
    """Builds the loss that `node` (the key `loss` of a job) describes.

    The target is a `Loss`, or another callable from logits (N, C) and labels (N,) to a scalar. It gets `class_counts`
    if it has a parameter of that name. A function is the loss itself if `node` leaves two of its parameters unset.
    """
    offered: dict[str, Any] = {"class_counts": list(class_counts)}
    target, own = resolve_target(node[TARGET], "loss"), {key: node[key] for key in node if key != TARGET}
    if inspect.isfunction(target):
        left = [name for name in inspect.signature(target).parameters if name not in {*own, *offered}]
        if len(left) >= NUM_LOSS_ARGUMENTS:
            loss = functools.partial(target, **own, **asked_for(node, "loss", offered))
            return LossFunction(loss, class_counts)
    if isinstance(node.get("labels"), Mapping):  # the loss of the labels inside another; it asks for its own
        offered["labels"] = make_loss(node["labels"], class_counts)
        node = {key: value for key, value in node.items() if key != "labels"}
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
    """Returns the LightningModule of `network`, with its loss, optimizer and schedule; the `card` names the classes."""
    return _kind(config)(
        network,
        make_loss(config["loss"], class_counts),
        pipeline.mix if pipeline.mix is not None and pipeline.mix.is_active else None,
        TaskOptions(
            **options_of(config, network, pipeline, card),
            image_size=pipeline.image_size,
            lr=learning_rate(config["optimizer"]),
            seed=config["seed"],
            decay_norms_and_biases=config["optimizer"]["decay_norms_and_biases"],
        ),
        make_optimizer(config["optimizer"], fuse=may_fuse(config["trainer"])),
        make_schedule(config["scheduler"]),
        validation_ids,
        added,
    )


def _kind(config: Mapping[str, Any]) -> type[LesionClassifier]:
    if remembers(config["backbone"]):
        return NeighbourProbe
    return LogisticProbe if solves_exactly(config["optimizer"]) else LesionClassifier


def may_fuse(trainer: Mapping[str, Any]) -> bool:
    """Returns whether to fuse the optimizer.

    With fp16 a fused optimizer unscales gradients itself, which Lightning's clipping forbids.
    """
    return resolve_precision(trainer["precision"], trainer["accelerator"]) != "16-mixed"


def solves_exactly(node: Mapping[str, Any]) -> bool:
    """Returns whether the optimizer of `node` (the key `optimizer` of a job) solves for a head in each epoch."""
    return bool(node[TARGET] == f"{LogisticPath.__module__}.{LogisticPath.__qualname__}")


def remembers(node: Mapping[str, Any]) -> bool:
    """Returns whether the head of `node` (the key `backbone` of a job) stores training images and trains no weight."""
    return bool(node.get("head") == "knn")


def learning_rate(node: Mapping[str, Any]) -> float:
    """Returns the learning rate of `node` (the key `optimizer` of a job); 0 for an optimizer that has none."""
    return float(node.get("lr", 0.0))


def make_optimizer(node: Mapping[str, Any], *, fuse: bool) -> Callable[[ParameterGroups, float], Optimizer]:
    """Returns a function from parameter groups and a learning rate to the optimizer that `node` describes."""

    def make(groups: ParameterGroups, lr: float) -> Optimizer:
        own = {key: value for key, value in node.items() if key not in OPTIMIZER_COMMON_KEYS}
        on_cpu_or_gpu = all(weights.device.type in {"cpu", "cuda"} for group in groups for weights in group["params"])
        if (
            fuse
            and on_cpu_or_gpu
            and "fused" in inspect.signature(resolve_target(node["_target_"], "optimizer")).parameters
        ):
            own = {"fused": True, **own}
        if "lr" in node:
            own = {**own, "lr": lr}
        optimizer: Optimizer = instantiate(own, "optimizer", params=groups)
        return optimizer

    return make


def make_schedule(node: Mapping[str, Any]) -> Callable[[Optimizer, float, int], Schedule]:
    """Returns a function that builds the schedule that `node` describes.

    Its arguments are the optimizer, the total number of steps and the number of steps in an epoch.
    """

    def make(optimizer: Optimizer, total_steps: float, steps_per_epoch: int) -> Schedule:
        schedule: Schedule = instantiate(
            node, "scheduler", optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        return schedule

    return make
