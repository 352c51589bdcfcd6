"""From `conf/trainer` to Lightning's Trainer with its callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)
from pytorch_lightning.loggers.logger import Logger

from lesion_exp.errors import ConfigError
from lesion_exp.job.messages import quiet_libraries
from lesion_exp.job.precision import has_gpu, resolve_devices, resolve_precision
from lesion_exp.job.weight_average import MovingAverage
from lesion_exp.task import WATCHED_METRIC

OWN_KEYS: Final = frozenset({"early_stopping", "ema_decay", "channels_last", "compile", "find_lr", "find_batch_size"})
"""Keys of `conf/trainer` that are not arguments of Lightning's Trainer."""
METRIC_STAGES: Final = ("train/", "val/")


def build_trainer(
    config: Mapping[str, Any], logger: Logger | bool, live_dir: Path, callbacks: list[Callback]
) -> pl.Trainer:
    """The Trainer that `config` (the node `trainer`) describes; checkpoints go to `live_dir`.

    Raises:
        ConfigError: a value that Lightning's Trainer refuses, or a GPU that is not there.
    """
    quiet_libraries()
    arguments = {key: value for key, value in config.items() if key not in OWN_KEYS}
    accelerator = arguments["accelerator"]
    arguments["precision"] = resolve_precision(arguments["precision"], accelerator)
    arguments["devices"] = resolve_devices(arguments["devices"], accelerator)
    try:
        return pl.Trainer(
            **arguments,
            logger=logger,
            callbacks=[*_callbacks(config, live_dir, logging=bool(logger)), *callbacks],
            default_root_dir=str(live_dir),
            use_distributed_sampler=False,  # the batch samplers shard the order themselves
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,  # it would log metrics of an untrained network
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        hint = "; trainer=cpu trains without a GPU" if accelerator in {"gpu", "cuda"} else ""
        raise ConfigError(
            f"expected a trainer that can be built on this machine, Lightning says: {error}{hint}"
        ) from error


def uses_several_processes(config: Mapping[str, Any]) -> bool:
    """Whether this trainer runs in more than one process."""
    devices = resolve_devices(config["devices"], config["accelerator"])
    count = len(devices) if isinstance(devices, list) else devices
    return count * int(config["num_nodes"]) > 1


def best_and_last(trainer: pl.Trainer) -> tuple[Path | None, Path | None]:
    """The files of the best and of the last checkpoint; None where training did not come so far."""
    best, last = None, None
    for callback in trainer.checkpoint_callbacks:
        assert isinstance(callback, ModelCheckpoint)
        path = Path(callback.best_model_path) if callback.best_model_path else None
        if callback.monitor is None:
            last = path
        else:
            best = path
    return best, last


def resolve_channels_last(value: bool | str, convolutional: bool) -> bool:
    """Whether images and weights lie in memory with the channels last: faster for convolutions."""
    return convolutional if value == "auto" else bool(value)


def describe_resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the `auto` values became here, for the log."""
    accelerator = config["accelerator"]
    return {
        "trainer.accelerator": "gpu" if has_gpu(accelerator) else "cpu",
        "trainer.devices": resolve_devices(config["devices"], accelerator),
        "trainer.precision": resolve_precision(config["precision"], accelerator),
    }


def _callbacks(config: Mapping[str, Any], live_dir: Path, *, logging: bool) -> list[Callback]:
    # "=" in file names would break overrides that name them, hence no metric names in them
    shared: dict[str, Any] = {"dirpath": live_dir, "auto_insert_metric_name": False, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor=WATCHED_METRIC, mode="max", save_top_k=1, **shared)
    last = ModelCheckpoint(filename="last", save_top_k=1, **shared)
    callbacks: list[Callback] = [best, last]
    if config["ema_decay"] is not None:
        callbacks.append(MovingAverage(float(config["ema_decay"])))
    stopping = config["early_stopping"]
    if stopping["patience"] is not None:
        monitor = stopping["monitor"]
        if not monitor.startswith(METRIC_STAGES):
            raise ConfigError(
                f"expected trainer.early_stopping.monitor to be a metric like {WATCHED_METRIC}, got {monitor}"
            )
        callbacks.append(EarlyStopping(monitor=monitor, mode=stopping["mode"], patience=int(stopping["patience"])))
    if logging:
        callbacks.append(LearningRateMonitor(logging_interval="epoch"))
    return callbacks
