"""Builds the classifier and the data module that a Trainer needs, from a job's config and its data."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.transformer_blocks import checkpoint_activations
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.lesion_dataset import network_input
from lesion_exp.data.loaders import LoaderOptions
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.statistics import asks_for_statistics, training_statistics, with_statistics
from lesion_exp.data.views import LABELLED, PretrainingDataModule
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.classifier import (
    learning_rate,
    make_classifier,
    make_optimizer,
    make_schedule,
    remembers,
    solves_exactly,
)
from lesion_exp.model.inputs import sample_options
from lesion_exp.model.model_card import model_card
from lesion_exp.model.network import make_network
from lesion_exp.model.precision import has_gpu
from lesion_exp.pretrain import chosen_parts
from lesion_exp.scheduler.schedule import ENDLESS, TrainingLength
from lesion_exp.task import LesionClassifier
from lesion_exp.taxonomy import IS_UNKNOWN
from lesion_exp.training.added_metrics import make_added_metrics
from lesion_exp.training.data import SplitData, is_pretraining
from lesion_exp.training.sharded import check_shardable, is_sharded

log = logging.getLogger(__name__)

_TRIAL_STEPS: Final = 1000
_UNMEASURED: Final = MappingProxyType({"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)})
"""In the place of the statistics while they are measured; what comes before normalisation does not depend on them."""


@dataclass(frozen=True)
class Built:
    """The arguments of `Trainer.fit`."""

    classifier: LesionClassifier
    datamodule: LesionDataModule


def build(config: Mapping[str, Any], split: SplitData) -> Built:
    """Builds the classifier, with weights that depend on the seed, and its data module.

    Raises:
        ConfigError: options contradict each other, or a component refuses its parameters.
    """
    config, datamodule = seeded_data(config, split)
    pipeline, encoder, trainer = datamodule.pipeline, datamodule.metadata, config["trainer"]
    network = make_network(config, len(split.classes), encoder, split.classes)
    if names := network.tuned_layers():
        count, total = (sum(w.numel() for w in each) for each in (network.tuned_parameters(), network.parameters()))
        log.info("backbone.tune=%s trains %s and the head: %s of %s weights", network.shared.tune, ", ".join(names),
                 f"{count:,}", f"{total:,}")  # fmt: skip
    card = model_card(config, split.classes, encoder, split.loaded.info, split.loaded.store.squash)
    counts, image_ids = datamodule.class_counts(), datamodule.parts["val"]["image_id"].tolist()
    added = make_added_metrics(config, len(split.classes))
    classifier = make_classifier(config, network, pipeline, card, counts, image_ids, added)
    if is_sharded(trainer):
        check_shardable(classifier.backbone)
    save_memory(classifier.backbone, trainer)
    if trainer["compile"] not in (False, "none"):
        _compile(classifier.backbone, trainer["compile"])
    return Built(classifier, datamodule)


def seeded_data(config: Mapping[str, Any], split: SplitData) -> tuple[Mapping[str, Any], LesionDataModule]:
    """Seeds the random numbers from which networks are made; returns `config` as `measured` does and the data module.

    Raises:
        ConfigError: see `make_datamodule`.
    """
    pl.seed_everything(config["seed"], verbose=False)
    config = measured(config, split)
    return config, make_datamodule(config, split)


def make_datamodule(config: Mapping[str, Any], split: SplitData) -> LesionDataModule:
    """Builds the data module, which has the loaders of the training, validation and test part.

    Raises:
        ConfigError: options contradict each other, or a component refuses its parameters.
    """
    config = measured(config, split)
    pipeline: AugmentationPipeline = instantiate(config["augmentation"], "augmentation")
    encoder = metadata_encoder(config, split.table)
    sample = sample_options(config)
    if pipeline.trains_on_device and not has_gpu(config["trainer"]["accelerator"]):
        raise ConfigError(
            "expected a GPU for augmentation.device=gpu, got a trainer without one; set augmentation.device=cpu"
        )
    if pipeline.trains_on_device and (sample.mask != "none" or sample.clinical):
        raise ConfigError(
            "expected dataset.mask=none and one view with augmentation.device=gpu, got masks or two views; use "
            "augmentation.device=cpu"
        )
    pretrains = is_pretraining(config)
    kind = PretrainingDataModule if pretrains else LesionDataModule
    data = kind(
        pretraining_table(config, split) if pretrains else split.table,
        split.loaded.store,
        pipeline,
        instantiate(config["sampler"], "sampler"),
        split.classes,
        sample,
        LoaderOptions(**config["loader"]),
        encoder,
    )
    data.one_batch_an_epoch = solves_exactly(config["optimizer"]) or remembers(config["backbone"])
    return data


def pretraining_table(config: Mapping[str, Any], split: SplitData) -> pd.DataFrame:
    """Returns the images of a pretraining: those of `pretrain.parts` as its training part, and those of its probe.

    The probe has the labelled images of the split's training part as the part `LABELLED`, and those of its validation
    part with the same classes as `val`; there is none if either is empty, or there is a single class.
    """
    table = split.table.assign(**{IS_UNKNOWN: ~split.table["label"].isin(split.classes)})
    seen = table[table["split"].isin(chosen_parts(config["pretrain"]["parts"]))].assign(split="train")
    known = table[~table[IS_UNKNOWN]]
    bank, queries = (known[known["split"] == part] for part in ("train", "val"))
    if len(split.classes) < 2 or queries.empty:
        return seen
    return pd.concat([seen, bank.assign(split=LABELLED), queries], ignore_index=True)


def measured(config: Mapping[str, Any], split: SplitData) -> Mapping[str, Any]:
    """`config` with mean and deviation of the training part where `augmentation` asks for them."""
    if not asks_for_statistics(config["augmentation"]):
        return config
    node, dataset = config["augmentation"], config["dataset"]
    key = json.dumps([node.get("preprocess"), dataset["mask"], dataset["mask_margin"]], sort_keys=True, default=str)
    if key not in split.statistics:
        split.statistics[key] = _statistics(config, split)
    return {**config, "augmentation": with_statistics(node, split.statistics[key])}


def _statistics(config: Mapping[str, Any], split: SplitData) -> dict[str, list[float]]:
    """Mean and deviation of the training part after `augmentation.preprocess` and `dataset.mask`."""
    pipeline: AugmentationPipeline = instantiate(with_statistics(config["augmentation"], _UNMEASURED), "augmentation")
    sample, store = sample_options(config), split.loaded.store

    def shown(row: int) -> UInt8Array:
        mask = store.read(row, "masks") if sample.mask != "none" else None
        seen = network_input(store.read(row), mask, sample, pipeline.preprocessed)
        return np.ascontiguousarray(seen[:3].permute(1, 2, 0).numpy())

    found = training_statistics(split.table, store, shown)
    log.info("the training part has mean %(mean)s and deviation %(std)s (RGB, shares of full range)", found)
    return found


def save_memory(network: Backbone, trainer: Mapping[str, Any]) -> None:
    """Has `network` keep fewer activations for the backward pass if `trainer` (the node of that name) asks for it.

    Raises:
        ConfigError: the network has no transformer blocks, or is to be compiled.
    """
    if not trainer.get("activation_checkpointing", False):
        return
    if trainer["compile"] not in (False, "none"):
        raise ConfigError(
            f"expected trainer.compile=none with trainer.activation_checkpointing=true, because a compiled network "
            f"chooses itself what it computes anew, got {trainer['compile']}; set one of them to its default"
        )
    checkpoint_activations(network)


def _compile(network: Backbone, mode: bool | str) -> None:
    """Has the network compiled at its first step; torch caches the result for later runs (TORCHINDUCTOR_CACHE_DIR)."""
    network.compile(mode="default" if mode is True else str(mode))


def check_optimisation(config: Mapping[str, Any], length: TrainingLength | None = None) -> None:
    """Checks that optimizer and schedule accept their parameters, before a run is opened.

    Without a `length`, which depends on the data, a length is assumed that agrees with the limits in the config.

    Raises:
        ConfigError: a parameter is refused.
    """
    with warnings.catch_warnings():  # warnings about the length are given for the real training
        warnings.simplefilter("ignore")
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}]
        optimizer = make_optimizer(config["optimizer"], fuse=False)(groups, learning_rate(config["optimizer"]))
        if solves_exactly(config["optimizer"]):
            return  # it has no learning rate for a schedule
        length = length or _some_length(config["trainer"])
        make_schedule(config["scheduler"])(optimizer, length.total_steps, length.steps_per_epoch)


def _some_length(trainer: Mapping[str, Any]) -> TrainingLength:
    max_steps = trainer.get("max_steps")
    return TrainingLength(_TRIAL_STEPS, 1, trainer["max_epochs"], ENDLESS if max_steps is None else max_steps)


def metadata_encoder(config: Mapping[str, Any], table: pd.DataFrame) -> MetadataEncoder | None:
    """Fits the encoder of the metadata on the training part of `table`; None if the network reads no metadata."""
    if config["backbone"].get("metadata", "none") == "none":
        return None
    return MetadataEncoder.fit(table[table["split"] == "train"])
