"""What can be known of a training once its data are there: checked before a run is opened for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from lesion_exp.config.registered import TARGET
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.loss.base import check_loss
from lesion_exp.model.classifier import make_loss
from lesion_exp.scheduler.length import ENDLESS, TrainingLength
from lesion_exp.training.added_metrics import try_added
from lesion_exp.training.build import check_optimisation, make_datamodule
from lesion_exp.training.data import SplitData
from lesion_exp.training.part_evaluation import check_evaluation
from lesion_exp.training.trainer import check_trainer, num_processes
from lesion_exp.training.trial_network import Trial
from lesion_exp.training.tune import FIRST_BATCH
from lesion_exp.training.watched_metrics import check_watched


def check_training(config: Mapping[str, Any], split: SplitData) -> list[str]:
    """Checks that the job `config` can train on `split` from its first step to its end; returns what to warn of.

    Raises:
        DataError: a part that is needed has no image.
        ConfigError: no step, no validation, a metric that no epoch has, a network that does not take its batches, or
            values that do not go together.
    """
    trainer = check_trainer(config["trainer"])
    _check_parts(config, split)
    check_evaluation(config, split)
    try_added(config, len(split.classes))
    check_watched(config, split.classes)
    data = make_datamodule(config, split)
    warnings = []
    loss = make_loss(config["loss"], data.class_counts())
    check_loss(loss, f"loss={config['loss'][TARGET]}")
    if config["trainer"]["find_batch_size"]:  # the length of an epoch is not known yet
        check_optimisation(config)
        batch_size = min(FIRST_BATCH, data.images_per_epoch())
    else:
        ranks = num_processes(config["trainer"])
        length = _length(config, trainer, data, ranks)
        _check_validations(config, trainer, length, data, ranks)
        check_optimisation(config, length)
        loss.set_epoch(0, length.num_epochs)
        batch_size = data.smallest_batch(ranks)
        if batch_size < data.batch_size:
            warnings.append(_small_batch(data, batch_size, ranks))
    metadata_width = data.metadata.width if data.metadata else 0
    Trial(config, len(split.classes), metadata_width, min(batch_size, 2)).check()
    return warnings


def _check_parts(config: Mapping[str, Any], split: SplitData) -> None:
    counts = split.table["split"].value_counts()
    for part in ("val", "test") if config["test"] else ("val",):
        if not counts.get(part, 0):
            other = ", or set test=false" if part == "test" else ""
            raise DataError(
                f"expected images in the {part} part, got none (train {counts.get('train', 0)}); use more images or "
                f"another split, such as split=grouped split.ratios.{part}=0.15{other}"
            )


def training_length(config: Mapping[str, Any], split: SplitData) -> TrainingLength:
    """How long the training of the job `config` on `split` is."""
    return _length(
        config, check_trainer(config["trainer"]), make_datamodule(config, split), num_processes(config["trainer"])
    )


def _length(config: Mapping[str, Any], trainer: pl.Trainer, data: LesionDataModule, ranks: int) -> TrainingLength:
    key = "trainer.overfit_batches" if config["trainer"]["overfit_batches"] else "trainer.limit_train_batches"
    num_batches = _limited(data.num_training_batches(ranks), trainer.limit_train_batches, key)
    epochs = trainer.max_epochs
    return TrainingLength(
        num_batches, trainer.accumulate_grad_batches, ENDLESS if epochs is None else epochs, trainer.max_steps
    )


def _limited(num_batches: int, limit: float, key: str) -> int:
    """The batches that Lightning takes of `num_batches`: a share where `limit` is a fraction, else a number."""
    if isinstance(limit, int):
        return min(num_batches, limit)
    if limit > 0 and int(num_batches * limit) == 0:
        raise ConfigError(
            f"expected {key} to leave at least one of {num_batches} batches, got the share {limit}; set {key}=1 for "
            f"one batch"
        )
    return int(num_batches * limit)


def _check_validations(
    config: Mapping[str, Any], trainer: pl.Trainer, length: TrainingLength, data: LesionDataModule, ranks: int
) -> None:
    """Refuses a training that ends before its first validation, or whose schedule waits for one that does not come."""
    key = "trainer.overfit_batches" if config["trainer"]["overfit_batches"] else "trainer.limit_val_batches"
    if not _limited(data.num_evaluation_batches("val", ranks), trainer.limit_val_batches, key):
        raise ConfigError(
            f"expected a training that is validated, since its best epoch is chosen so, got {key}="
            f"{trainer.limit_val_batches}; set {key}=1 for one batch"
        )
    by_time = getattr(trainer, "_val_check_time_interval", None) is not None
    monitor = str(config["scheduler"].get("monitor", ""))
    every = trainer.check_val_every_n_epoch
    if by_time:
        if monitor.startswith("val/"):
            raise ConfigError(
                f"expected validations by epochs or steps for scheduler.monitor={monitor}, got "
                f"trainer.val_check_interval={config['trainer']['val_check_interval']}; leave it out"
            )
        return
    batches = _batches_between(trainer, length)
    if every is None and batches > length.num_batches and monitor.startswith("val/"):
        raise ConfigError(
            f"expected a validation in each epoch of {length.num_batches} batches for scheduler.monitor={monitor}, got "
            f"one every {batches}; set trainer.check_val_every_n_epoch={math.ceil(batches / length.num_batches)} and "
            f"leave out trainer.val_check_interval"
        )
    first = batches if every is None else (every - 1) * length.num_batches + batches
    if first > length.total_batches:
        total = int(length.total_batches)
        inside = "" if total >= length.num_batches else f" trainer.val_check_interval={total}"
        raise ConfigError(
            f"expected a training that is validated at least once, since its best epoch is chosen so, but it ends "
            f"after {total} batches ({length.num_batches} an epoch) and its first validation would come after "
            f"{first}; set trainer.check_val_every_n_epoch=1{inside}, or train longer"
        )


def _batches_between(trainer: pl.Trainer, length: TrainingLength) -> int:
    """Batches from one validation of an epoch to the next."""
    interval = trainer.val_check_interval
    if not isinstance(interval, int):
        return max(1, int(length.num_batches * interval))
    if interval > length.num_batches and trainer.check_val_every_n_epoch is not None:
        raise ConfigError(
            f"expected trainer.val_check_interval of at most {length.num_batches}, the batches of an epoch, got "
            f"{interval}; set trainer.check_val_every_n_epoch={math.ceil(interval / length.num_batches)} instead"
        )
    return interval


def _small_batch(data: LesionDataModule, batch_size: int, ranks: int) -> str:
    wanted = f"loader.batch_size={data.batch_size}" + (f" on {ranks} processes" if ranks > 1 else "")
    return (
        f"the sampler draws {data.images_per_epoch()} images an epoch, fewer than one step of {wanted}: each epoch is "
        f"one step of {batch_size * ranks} images; loader.batch_size={max(batch_size // 4, 2)} makes several"
    )
