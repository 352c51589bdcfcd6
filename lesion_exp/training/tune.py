"""Runs Lightning's tuners of the batch size and the learning rate before the training, if the config asks for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import pytorch_lightning as pl
from pytorch_lightning.tuner.tuning import Tuner

from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.schedule import ENDLESS, TrainingLength
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.training.build import Built

log = logging.getLogger(__name__)

FIRST_BATCH: Final = 8
LARGEST_BATCH: Final = 4096
LARGEST_CPU_BATCH: Final = 256
"""Limit on a CPU, which does not report that a batch does not fit: it swaps, or the system kills the process."""
LONGEST_LR_SEARCH: Final = 100
SHORTEST_LR_SEARCH: Final = 20
"""Steps; the tuner ignores the first ten."""


def tune(config: Mapping[str, Any], trainer: pl.Trainer, built: Built, run: TrackedRun | None) -> None:
    """Sets the batch size and the learning rate that `config` (the node `trainer`) asks to tune.

    They are logged as `found.batch_size` and `found.lr`. A resumed run uses the values that it found before.

    Raises:
        ConfigError: the run has several processes, or no learning rate can be suggested.
    """
    if not (config["find_lr"] or config["find_batch_size"]):
        return
    if trainer.world_size > 1:
        raise ConfigError(
            f"expected one process for trainer.find_lr and trainer.find_batch_size, got {trainer.world_size}; find the "
            f"values with trainer.devices=1, then set optimizer.lr and loader.batch_size"
        )
    before = _found_before(run)
    if config["find_batch_size"]:
        size = int(before["batch_size"]) if "batch_size" in before else _find_batch_size(trainer, built)
        built.datamodule.batch_size = size
        _log_found(run, "batch_size", size)
        log.info("batch-size finder: loader.batch_size=%d", size)
    if config["find_lr"]:
        lr = float(before["lr"]) if "lr" in before else _find_lr(trainer, built)
        built.classifier.lr = lr
        _log_found(run, "lr", lr)
        log.info("learning-rate finder: optimizer.lr=%.3g", lr)


def _found_before(run: TrackedRun | None) -> dict[str, str]:
    if run is None or not run.resumed:
        return {}
    params = run.params_at_start
    return {name.removeprefix("found."): value for name, value in params.items() if name.startswith("found.")}


def _log_found(run: TrackedRun | None, name: str, value: float) -> None:
    if run is not None:
        run.log_params({"found": {name: value}})


def _find_batch_size(trainer: pl.Trainer, built: Built) -> int:
    """The largest power of two times the first size that fits into memory and into an epoch."""
    datamodule: LesionDataModule = built.datamodule
    on_cpu = trainer.strategy.root_device.type == "cpu"
    largest = min(datamodule.images_per_epoch(), LARGEST_CPU_BATCH if on_cpu else LARGEST_BATCH)
    first = min(FIRST_BATCH, largest)
    Tuner(trainer).scale_batch_size(
        built.classifier,
        datamodule=datamodule,
        mode="power",
        init_val=first,
        max_trials=int(math.log2(largest / first)) + 1,
        max_val=2 * LARGEST_BATCH,
    )
    return datamodule.batch_size


def _find_lr(trainer: pl.Trainer, built: Built) -> float:
    """The rate at which the loss falls fastest, while the rate rises from 1e-8 to 1."""
    num_steps = _training_steps(trainer, built.datamodule)
    suggested = None
    if num_steps >= SHORTEST_LR_SEARCH:
        finder = Tuner(trainer).lr_find(
            built.classifier, datamodule=built.datamodule, num_training=num_steps, update_attr=False
        )
        suggested = None if finder is None else finder.suggestion()
    if suggested is None:
        raise ConfigError(
            f"expected trainer.find_lr to find a learning rate at which the loss falls; in {num_steps} training steps "
            f"it found none (it needs {SHORTEST_LR_SEARCH} steps or more). Set optimizer.lr instead, or a smaller "
            "loader.batch_size or more trainer.max_epochs"
        )
    return float(suggested)


def _training_steps(trainer: pl.Trainer, datamodule: LesionDataModule) -> int:
    """The number of optimizer steps of the training, at most the number that the tuner can use."""
    batches = datamodule.num_training_batches(trainer.world_size)
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    accumulated, epochs = trainer.accumulate_grad_batches, trainer.max_epochs
    length = TrainingLength(batches, accumulated, ENDLESS if epochs is None else epochs, trainer.max_steps)
    return int(min(length.total_steps, LONGEST_LR_SEARCH))
