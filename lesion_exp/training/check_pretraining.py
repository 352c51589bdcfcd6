"""Checks that a job can pretrain on its data, before a run is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.data.views import LABELLED, PretrainingDataModule
from lesion_exp.dataset.table import UNLABELLED
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.registry import PROBE_METRIC
from lesion_exp.next_command import key_and_value
from lesion_exp.pretrain import chosen_parts
from lesion_exp.scheduler.schedule import ENDLESS
from lesion_exp.training.build import check_optimisation, make_datamodule
from lesion_exp.training.build_pretraining import build_pretraining
from lesion_exp.training.check_training import Trial, check_dealt, check_validations, length_on, one_source, small_batch
from lesion_exp.training.data import SplitData
from lesion_exp.training.trainer import check_trainer, num_processes

NOT_READ: Final = ("loss", "evaluation", "metrics", "test", "task")
"""Keys and groups that concern a classifier; a pretraining has none."""


def check_pretraining_keys(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Checks that a pretraining reads what the command sets; `config` is that of the whole job.

    Raises:
        ConfigError: a key concerns a classifier, or does not work with a pretraining.
    """
    for text in overrides:
        key, value = key_and_value(text)
        if key.split(".")[0].split("/")[0].split("@")[0] in NOT_READ and (key, value) != ("test", "false"):
            raise ConfigError(
                f"expected keys that a pretraining reads, got {text}, which concerns a classifier; leave it out "
                f"here, and set it for the run that starts from these weights: backbone.weights=run:ID {text}"
            )
    backbone, trainer = config["backbone"], config["trainer"]
    mix = config["augmentation"].get("mix") or {}
    wanted = {
        "backbone.head=linear": backbone.get("head", "linear") == "linear",
        "backbone.dropout=0": not backbone.get("dropout", 0.0),
        "backbone.metadata=none": backbone.get("metadata", "none") == "none",
        "backbone.freeze_epochs=0": not backbone.get("freeze_epochs", 0),
        "backbone.tune=full": backbone.get("tune", "full") == "full",
        "dataset.view=dermoscopic": config["dataset"]["view"] != "both",
        "augmentation.views=null": config["augmentation"].get("views") is None,
        "augmentation/mix=none": not (mix.get("mixup_alpha") or mix.get("cutmix_alpha")),
        "trainer.compile=none": trainer["compile"] in (False, "none"),
        "trainer.ema_decay=null": trainer["ema_decay"] is None,
        "trainer.find_lr=false": not trainer["find_lr"],
        "trainer.find_batch_size=false": not trainer["find_batch_size"],
        "trainer.check_val_every_n_epoch=1": trainer["check_val_every_n_epoch"] == 1,
        "trainer.overfit_batches=0": not trainer["overfit_batches"],
        "optimizer=adamw": ".logistic_path." not in str(config["optimizer"]["_target_"]),
    }
    refused = [override for override, is_met in wanted.items() if not is_met]
    if trainer.get("val_check_interval") is not None:
        refused.append("trainer.val_check_interval=null")
    if refused:
        probe = "; pretrain.probe_every=N says when to probe" if any("val_" in text for text in refused) else ""
        raise ConfigError(
            f"expected a pretraining without the options of a classifier and those that its method replaces, got some "
            f"of them; set {' '.join(refused)}{probe}"
        )


def check_pretraining(config: Mapping[str, Any], split: SplitData) -> list[str]:
    """Checks that the job `config` can pretrain on `split` from its first step to the last; returns warnings.

    Raises:
        DataError: there are no images in the chosen parts.
        ConfigError: the training has no step or no probe, a metric that is watched does not exist, or the method cannot
            train such a network, or such batches.
    """
    parts = chosen_parts(config["pretrain"]["parts"])
    seen = split.table["split"].isin(parts)
    if not seen.any():
        raise DataError(
            f"expected images in the parts {', '.join(parts)} of the split, got none; set pretrain.parts=all"
        )
    data = make_datamodule(config, split)
    assert isinstance(data, PretrainingDataModule), "the job pretrains"
    node = trainer_node(config, data)
    trainer, ranks = check_trainer(node), num_processes(node)
    length = length_on(config, trainer, data, ranks)
    if data.has_probe:
        check_dealt(config, data, (LABELLED, "val"))
        check_validations({**config, "trainer": node}, trainer, length, data, ranks)
    else:
        _check_unwatched(config)
    check_optimisation(config, length)
    batch_size = data.smallest_batch(ranks)
    Trial(config, 2, 0, min(batch_size, 2)).check()
    method = build_pretraining(config, split).task.method
    if batch_size < method.least_images:
        raise ConfigError(
            f"expected at least {method.least_images} images a step for this method, got {batch_size}; set "
            f"loader.batch_size=64, or use more images"
        )
    warnings = [small_batch(data, batch_size, ranks)] if batch_size < data.batch_size else []
    warnings += one_source(config["sampler"], data)
    hidden = int((split.table["label"] == UNLABELLED).sum())
    if not data.has_probe:
        known = (
            "no image has a label" if hidden == len(split.table) else "too few classes are labelled in train and val"
        )
        warnings.append(f"{known}: there is no probe by nearest neighbours, and the weights of the last epoch are kept")
    beyond = [part for part in parts if part != "train"]
    if beyond:
        count = int(split.table["split"].isin(beyond).sum())
        warnings.append(
            f"pretrain.parts={config['pretrain']['parts']} shows the network {count:,} images of "
            f"{' and '.join(beyond)}, without labels; every run that starts from it says so"
        )
    return warnings


def trainer_node(config: Mapping[str, Any], data: PretrainingDataModule) -> dict[str, Any]:
    """Returns the node `trainer` of `config` (of a whole job) with a validation at each probe, or none."""
    every = int(config["pretrain"]["probe_every"])
    epochs = int(config["trainer"]["max_epochs"] or ENDLESS)
    every = every if epochs == ENDLESS else min(every, epochs)
    probes = {"check_val_every_n_epoch": every} if data.has_probe else {"limit_val_batches": 0}
    return {**config["trainer"], **probes}


def _check_unwatched(config: Mapping[str, Any]) -> None:
    """Raises ConfigError if something waits for the probe of data without labels."""
    stopping, monitor = config["trainer"]["early_stopping"], config["scheduler"].get("monitor")
    places = {"scheduler.monitor": monitor}
    if stopping["patience"] is not None:
        places["trainer.early_stopping.monitor"] = stopping["monitor"]
    waiting = [key for key, name in places.items() if str(name).startswith("val/")]
    if waiting:
        raise ConfigError(
            f"expected labelled images for {PROBE_METRIC}, which {waiting[0]} waits for, but there are none in both "
            f"train and val; set {waiting[0]}=train/loss"
        )
