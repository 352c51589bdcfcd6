"""A learning rate that falls when a metric stops improving."""

from __future__ import annotations

from typing import Final, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.value_range import check_range

_LOSS: Final = "val/loss"


def plateau(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    monitor: str | None = None,
    mode: Literal["auto", "min", "max"] = "auto",
    factor: float = 0.5,
    patience: int = 5,
    threshold: float = 1.0e-4,
    cooldown: int = 0,
    min_lr: float = 0.0,
) -> Schedule:
    """Returns a schedule that multiplies the learning rate by `factor` when `monitor` stops improving.

    The metric is checked after each validation, or after each epoch if it is `train/loss`.

    Args:
        optimizer: its groups have the initial learning rates.
        total_steps: optimizer steps of the whole training; the schedule does not depend on it.
        steps_per_epoch: optimizer steps in an epoch; the schedule does not depend on it.
        monitor: name of the metric; None is `val/loss` (a job names `trainer.monitor` instead, if that is given).
        mode: `min` if lower values are better (losses), else `max`. `auto` is `min` for `val/loss`; of other metrics
            a job has replaced it by the direction of the metric.
        factor: factor of the learning rate at each reduction, in (0, 1).
        patience: number of checks without improvement before a reduction.
        threshold: smallest relative change that counts as an improvement.
        cooldown: number of checks after a reduction that are not counted.
        min_lr: lower bound of the learning rate.

    Raises:
        ConfigError: a value is out of range, or `mode` is `auto` for another metric than `val/loss`.
    """
    del total_steps, steps_per_epoch
    monitor = _LOSS if monitor is None else monitor
    if mode == "auto":
        if monitor != _LOSS:
            raise ConfigError(
                f"expected scheduler.mode=min or max for {monitor}, got auto; set the mode whose values are better"
            )
        mode = "min"
    check_range("scheduler.factor", factor)
    for key, value in (("patience", patience), ("threshold", threshold), ("cooldown", cooldown), ("min_lr", min_lr)):
        if value < 0:
            raise ConfigError(
                f"expected scheduler.{key} to be at least 0, got {value}; leave it out to use the default"
            )
    scheduler = ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
        min_lr=min_lr,
    )
    return Schedule(scheduler, interval="epoch", monitor=monitor)
