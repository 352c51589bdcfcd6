"""Logs the number and the learning rate of each epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lesion_exp.tracking.lightning_logger import TrackingLogger, last_step


class LearningRate(Callback):
    """Logs `epoch`, and as `train/lr` the rate with which the epoch began, where the epoch's other metrics stand.

    The rate is the largest of the optimizer's groups, which is that of the head: one metric whatever the number of
    groups, so that runs with different networks are compared in one chart.
    """

    def __init__(self) -> None:
        self._rate: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The rate with which the epoch began, for a run that goes on in the middle of it."""
        return {"rate": self._rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rate of a run that stopped in the middle of an epoch."""
        self._rate = state_dict["rate"]

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Notes the rate of the step to come."""
        self._rate = max(float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Logs both."""
        rate = {} if self._rate is None else {"train/lr": self._rate}
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.log_epoch(trainer.current_epoch + 1, rate, last_step(trainer))
