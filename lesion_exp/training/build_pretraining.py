"""Builds the task and the data module that pretrain the body of a network without labels, from a job's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.backbone.backbone import Backbone
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.views import PretrainingDataModule
from lesion_exp.model.classifier import (
    learning_rate,
    make_optimizer,
    make_schedule,
    may_fuse,
)
from lesion_exp.model.model_card import model_card
from lesion_exp.model.network import make_network, uses_channels_last
from lesion_exp.pretrain import COMMON_KEYS
from lesion_exp.pretrain.method import BodyFacts, Method
from lesion_exp.pretraining_task import PretrainingTask
from lesion_exp.task import TaskOptions
from lesion_exp.training.build import save_memory, seeded_data
from lesion_exp.training.data import SplitData

UNUSED_CLASSES: Final = 2
"""Outputs of the head, which a pretraining takes off."""


@dataclass(frozen=True)
class BuiltPretraining:
    """The arguments of `Trainer.fit`."""

    task: PretrainingTask
    datamodule: PretrainingDataModule


def build_pretraining(config: Mapping[str, Any], split: SplitData) -> BuiltPretraining:
    """Builds the task, with weights that depend on the seed, and its data module.

    Raises:
        ConfigError: options contradict each other, a component refuses its parameters, or the method cannot train such
            a network.
    """
    config, data = seeded_data(config, split)
    assert isinstance(data, PretrainingDataModule), "the job pretrains"
    network = make_network(config, UNUSED_CLASSES, None)
    save_memory(network, config["trainer"])
    method = make_method(config, network)
    data.num_views = method.num_views
    task = PretrainingTask(
        network,
        method,
        TaskOptions(
            classes=split.classes,
            mean=data.pipeline.mean,
            std=data.pipeline.std,
            image_size=data.pipeline.image_size,
            lr=learning_rate(config["optimizer"]),
            seed=config["seed"],
            channels_last=uses_channels_last(config, network),
            decay_norms_and_biases=config["optimizer"]["decay_norms_and_biases"],
            card=model_card(config, (), None, split.loaded.info),
        ),
        make_optimizer(config["optimizer"], fuse=may_fuse(config["trainer"])),
        make_schedule(config["scheduler"]),
        int(config["pretrain"]["probe_neighbours"]),
    )
    return BuiltPretraining(task, data)


def make_method(config: Mapping[str, Any], network: Backbone) -> Method:
    """Builds the method that the node `pretrain` of `config` (of a whole job) describes, for the body of `network`."""
    own = {key: value for key, value in config["pretrain"].items() if key not in COMMON_KEYS}
    facts = BodyFacts(
        network.body.num_features,
        network.is_convolutional,
        int(config["image_size"]),
        starts_random=config["backbone"].get("weights", "none") == "none",
    )
    method: Method = instantiate(own, "pretrain", facts=facts)
    return method
