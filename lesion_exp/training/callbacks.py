"""Lightning callbacks of a training: learning rate, moving average, validations, and the stop that a sweep asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.task import training_length
from lesion_exp.tracking.lightning_logger import TrackingLogger, last_step
from lesion_exp.training.run_context import REPORTS_FILE, STOP_FILE


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


class MovingAverage(WeightAveraging):
    """Moving average of weights and buffers with a warm-up: after n steps (1 + n) / (10 + n) is kept at most.

    Without the warm-up the random first weights stay in the average for 1 / (1 - decay) steps and more.

    Args:
        decay: share of the average that is kept a step, between 0 and 1.

    Raises:
        ConfigError: another value.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"expected trainer.ema_decay between 0 and 1, got {decay}; 0.999 is usual")
        self.decay = decay
        self._trained: dict[str, Tensor] | None = None
        super().__init__(multi_avg_fn=self._average)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the module the average, and remembers the weights that were trained for the last checkpoint."""
        self._trained = {name: weights.detach().clone() for name, weights in pl_module.state_dict().items()}
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the average as the weights, and beside it those that were trained, from which training can go on."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._trained is not None and "current_model_state" in checkpoint:
            checkpoint["current_model_state"] = self._trained

    def _average(self, averaged: Any, current: Any, num_averaged: Tensor | int) -> None:
        steps = int(num_averaged)
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        if averaged[0].is_floating_point():  # torch hands over tensors of one type at a time
            torch._foreach_lerp_(averaged, current, share)
            return
        for kept, new in zip(averaged, current, strict=True):  # counters of batch norm have no average
            kept.copy_(new)


class Validations(Callback):
    """Remembers the metrics of every validation."""

    def __init__(self) -> None:
        self._by_step: dict[int, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """The metrics, for a run that goes on later."""
        return {"by_step": self._by_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the metrics of a run that stopped."""
        self._by_step = dict(state_dict["by_step"])

    def up_to(self, num_steps: int) -> tuple[dict[str, float], int]:
        """The metrics of the last validation after at most `num_steps` training steps, and their step in the run."""
        done = max((known for known in self._by_step if known <= num_steps), default=None)
        return ({}, 0) if done is None else (self._by_step[done], max(done - 1, 0))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the metrics of the epoch."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._by_step[trainer.global_step] = found


class PruningCallback(Callback):
    """Appends a line to `folder`/reports.jsonl after each validation; once `folder`/stop exists, training ends.

    Files are what processes of every kind share: a fork, a node of a cluster, a worker of Ray.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False
        """Whether training was asked to end before its last epoch."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports, and looks for the file."""
        if trainer.sanity_checking:
            return
        num_epochs = training_length(trainer).num_epochs
        if trainer.is_global_zero:
            values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
            report = {"epoch": trainer.current_epoch + 1, "max_epochs": num_epochs, **values}
            with (self.folder / REPORTS_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(report)}\n")
        is_last = trainer.current_epoch + 1 == num_epochs
        if not is_last and trainer.strategy.broadcast((self.folder / STOP_FILE).exists()):
            self.stopped = trainer.should_stop = True
