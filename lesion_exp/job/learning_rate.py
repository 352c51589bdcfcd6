"""Logs the learning rate of each epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class LearningRate(Callback):
    """Logs `train/lr` as each epoch begins: the largest of the optimizer's groups, which is that of the head.

    One metric whatever the number of groups, so that runs with different networks are compared in one chart.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Logs the rate of the step to come."""
        rate = max(float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups)
        for logger in trainer.loggers:
            logger.log_metrics({"train/lr": rate}, step=trainer.global_step)
