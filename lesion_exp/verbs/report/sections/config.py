"""What the run was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from lesion_exp.trained_runs.run_summary import JOB, RunSummary
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Pairs, Section, not_stored

_LEFT_OUT: Final = ("paths", "tracking", "launcher", "print_config")
"""Nodes that say where things lie on a machine and cannot change a result."""
CHOICES: Final = {
    "data set": "dataset",
    "split": "split",
    "network": "backbone",
    "loss": "loss",
    "sampler": "sampler",
    "optimizer": "optimizer",
    "learning rate schedule": "scheduler",
}
_KEYS: Final = {
    "target": "task.target",
    "image size, pixels": "image_size",
    "weights at the start": "backbone.weights",
    "metadata": "backbone.metadata",
    "learning rate": "optimizer.lr",
    "weight decay": "optimizer.weight_decay",
    "most epochs": "trainer.max_epochs",
    "images a step": "loader.batch_size",
    "precision": "trainer.precision",
    "moving average of weights": "trainer.ema_decay",
    "filter": "dataset.filter",
    "seed": "seed",
}


def config(facts: RunSummary) -> Section:
    """The section with the config."""
    if not facts.config:
        return Section("config", "Config", [not_stored(JOB)])
    pairs: dict[str, Cell] = {words: option for words, group in CHOICES.items() if (option := facts.option(group))}
    pairs |= {words: _text(value) for words, key in _KEYS.items() if (value := facts.key(key)) is not None}
    pairs["augmentation"] = augmentation_in_words(facts)
    whole = yaml.safe_dump(shown(facts.config), sort_keys=False, width=100, allow_unicode=True)
    blocks: list[Block] = [Pairs(pairs), Code("The whole config, without paths and store", whole)]
    return Section("config", "Config", blocks)


def shown(node: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what says where things lie on a machine."""
    kept = {key: value for key, value in node.items() if key not in _LEFT_OUT}
    data = kept.get("dataset")
    if isinstance(data, dict):
        kept["dataset"] = {key: value for key, value in data.items() if key != "root"}
    return kept


def augmentation_in_words(facts: RunSummary) -> str:
    """The names of the transforms of the training images, in their order."""
    transforms = facts.key("augmentation.transforms")
    names = list(transforms) if isinstance(transforms, dict) else []
    mixed = [name for name in ("mixup", "cutmix") if (facts.key(f"augmentation.mix.{name}_alpha") or 0) > 0]
    return ", ".join(str(name).replace("_", " ") for name in [*names, *mixed]) or "none"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
