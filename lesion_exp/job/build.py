"""From a job's config and its data to the classifier and the data module that a Trainer wants."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.options import SHARED_KEYS, InputsAndOutputs, SharedOptions
from lesion_exp.data.datamodule import LesionDataModule, LoaderOptions
from lesion_exp.data.lesion_dataset import SampleOptions
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.errors import ConfigError
from lesion_exp.job.data import SplitData
from lesion_exp.job.instantiate import asked_for, instantiate, resolve_target
from lesion_exp.job.model_card import model_card
from lesion_exp.job.precision import has_gpu, resolve_precision
from lesion_exp.job.registered import TARGET
from lesion_exp.job.trainer import resolve_channels_last
from lesion_exp.loss.base import Loss, LossFunction
from lesion_exp.scheduler.length import ENDLESS, TrainingLength
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.task import LesionClassifier, ParameterGroups, TaskOptions

OPTIMIZER_COMMON_KEYS: Final = frozenset({"decay_norms_and_biases"})
NUM_LOSS_ARGUMENTS: Final = 2
_TRIAL_STEPS: Final = 1000


@dataclass(frozen=True)
class Built:
    """What a Trainer fits."""

    classifier: LesionClassifier
    datamodule: LesionDataModule


def build(config: Mapping[str, Any], split: SplitData) -> Built:
    """The classifier with seeded weights, and its data module.

    Raises:
        ConfigError: options that do not go together, or that a part does not know.
    """
    pl.seed_everything(config["seed"], verbose=False)
    datamodule = make_datamodule(config, split)
    pipeline, encoder, trainer = datamodule.pipeline, datamodule.metadata, config["trainer"]
    network = make_network(config, len(split.classes), encoder)
    card = model_card(config, split.classes, encoder, split.loaded.info)
    counts, validation_rows = datamodule.class_counts(), datamodule.parts["val"]
    classifier = make_classifier(config, network, pipeline, card, counts, validation_rows)
    if trainer["compile"] not in (False, "none"):
        _compile(classifier.backbone, trainer["compile"])
    return Built(classifier, datamodule)


def make_datamodule(config: Mapping[str, Any], split: SplitData) -> LesionDataModule:
    """The loaders of a run's parts.

    Raises:
        ConfigError: options that do not go together, or that a part does not know.
    """
    pipeline: AugmentationPipeline = instantiate(config["augmentation"], "augmentation")
    encoder = _metadata_encoder(config, split.table)
    sample = sample_options(config)
    if pipeline.trains_on_device and not has_gpu(config["trainer"]["accelerator"]):
        raise ConfigError("expected a GPU for augmentation.device=gpu, got a trainer without; use device=cpu")
    if pipeline.trains_on_device and (sample.mask != "none" or sample.clinical):
        raise ConfigError(
            "expected dataset.mask=none and one view with augmentation.device=gpu, got masks or two views; use "
            "augmentation.device=cpu"
        )
    return LesionDataModule(
        split.table,
        split.loaded.store,
        pipeline,
        instantiate(config["sampler"], "sampler"),
        split.classes,
        sample,
        LoaderOptions(**config["loader"]),
        encoder,
    )


def _compile(network: Backbone, mode: bool | str) -> None:
    """Compiles at the first step; torch keeps what it compiled for later runs (in TORCHINDUCTOR_CACHE_DIR)."""
    network.compile(mode="default" if mode is True else str(mode))


def make_network(config: Mapping[str, Any], num_classes: int, encoder: MetadataEncoder | None) -> Backbone:
    """The network that `config` (a whole job's) describes, in its layout in memory."""
    sample = sample_options(config)
    width = encoder.width if encoder else 0
    shape = InputsAndOutputs(num_classes, config["image_size"], sample.in_channels, width, sample.clinical)
    network = make_backbone(config["backbone"], shape)
    return network.to(memory_format=torch.channels_last) if _channels_last(config, network) else network


def make_backbone(node: Mapping[str, Any], shape: InputsAndOutputs) -> Backbone:
    """The network that `node` (the key `backbone` of a job) describes, for the inputs and outputs in `shape`.

    The option gets its own keys, and of the number of classes and the size and channels of the images what it asks for;
    the shared keys are applied here to whatever network it returns.
    """
    shared = SharedOptions(**{key: value for key, value in node.items() if key in SHARED_KEYS})
    own = {key: value for key, value in node.items() if key not in SHARED_KEYS}
    offered = {key: getattr(shape, key) for key in ("num_classes", "image_size", "in_channels")}
    return assemble(instantiate(own, "backbone", **asked_for(own, "backbone", offered)), shared, shape)


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
    validation_rows: pd.DataFrame,
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
            channels_last=_channels_last(config, network),
            decay_norms_and_biases=config["optimizer"]["decay_norms_and_biases"],
            card=card,
        ),
        make_optimizer(config["optimizer"], fuse=_may_fuse(config["trainer"])),
        make_schedule(config["scheduler"]),
        validation_rows,
    )


def check_optimisation(config: Mapping[str, Any], length: TrainingLength | None = None) -> None:
    """Checks that optimizer and schedule take their values; to be asked before a run is opened for them.

    Without a `length`, which the data decide, the training is taken to be of some length if the config gives it an end.

    Raises:
        ConfigError: one of them does not.
    """
    with warnings.catch_warnings():  # what they say of the length of the training belongs to the real one
        warnings.simplefilter("ignore")
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}]
        optimizer = make_optimizer(config["optimizer"], fuse=False)(groups, float(config["optimizer"]["lr"]))
        length = length or _some_length(config["trainer"])
        make_schedule(config["scheduler"])(optimizer, length.total_steps, length.steps_per_epoch)


def _some_length(trainer: Mapping[str, Any]) -> TrainingLength:
    max_steps = trainer.get("max_steps")
    return TrainingLength(_TRIAL_STEPS, 1, trainer["max_epochs"], ENDLESS if max_steps is None else max_steps)


def _metadata_encoder(config: Mapping[str, Any], table: pd.DataFrame) -> MetadataEncoder | None:
    if config["backbone"].get("metadata", "none") == "none":
        return None
    return MetadataEncoder.fit(table[table["split"] == "train"])


def _channels_last(config: Mapping[str, Any], network: Backbone) -> bool:
    return resolve_channels_last(config["trainer"]["channels_last"], network.is_convolutional)


def sample_options(config: Mapping[str, Any]) -> SampleOptions:
    """How a stored image becomes a sample.

    Raises:
        ConfigError: masks of photographs that have none.
    """
    node = config["dataset"]
    clinical = node["view"] == "both"
    if node["view"] != "dermoscopic" and node["mask"] != "none":
        raise ConfigError(
            f"expected dataset.mask=none with dataset.view={node['view']}, got {node['mask']}: "
            f"lesion masks are drawn on dermoscopic images"
        )
    return SampleOptions(node["mask"], node["mask_margin"], clinical, config["seed"])


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
