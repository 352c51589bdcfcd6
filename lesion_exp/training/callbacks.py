"""Lightning callbacks of a training: learning rate, moving average, history of validations, and pruning."""

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
    """Logs `epoch` and, as `train/lr`, the learning rate at the start of the epoch, at the step of its other metrics.

    The rate is the largest of the optimizer's parameter groups, which is that of the head. One metric, whatever the
    number of groups, lets one chart compare runs with different networks.
    """

    def __init__(self) -> None:
        self._rate: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The learning rate at the start of the epoch, for a run that is resumed in the middle of it."""
        return {"rate": self._rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the rate of a run that stopped in the middle of an epoch."""
        self._rate = state_dict["rate"]

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stores the learning rate of the next step."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rate = max((float(group["lr"]) for group in groups if "lr" in group), default=None)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Logs the epoch and its learning rate."""
        rate = {} if self._rate is None else {"train/lr": self._rate}
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.log_epoch(trainer.current_epoch + 1, rate, last_step(trainer))


class MovingAverage(WeightAveraging):
    """Exponential moving average of weights and buffers, whose decay is at most (1 + n) / (10 + n) after n steps.

    Without this warm-up the random initial weights would stay in the average for 1 / (1 - decay) steps or more.

    Args:
        decay: factor of the average in each step, between 0 and 1.

    Raises:
        ConfigError: `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"expected trainer.ema_decay between 0 and 1, got {decay}; 0.999 is usual")
        self.decay = decay
        self._trained: dict[str, Tensor] | None = None
        super().__init__(multi_avg_fn=self._average)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copies the average to the module, and stores the trained weights for the last checkpoint."""
        self._trained = {name: weights.detach().clone() for name, weights in pl_module.state_dict().items()}
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the average as the weights, and the trained weights as well, from which training can be resumed."""
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
    """Stores the metrics of every validation."""

    def __init__(self) -> None:
        self._by_step: dict[int, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """The metrics, for a run that is resumed."""
        return {"by_step": self._by_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the metrics of a run that stopped."""
        self._by_step = dict(state_dict["by_step"])

    def up_to(self, num_steps: int) -> tuple[dict[str, float], int]:
        """The metrics of the last validation after at most `num_steps` training steps, and their step in the run."""
        done = max((known for known in self._by_step if known <= num_steps), default=None)
        return ({}, 0) if done is None else (self._by_step[done], max(done - 1, 0))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stores the metrics of this validation."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._by_step[trainer.global_step] = found


class PruningCallback(Callback):
    """Reports each validation to the search of a sweep and ends training when the search asks for it.

    It appends a line to `folder`/reports.jsonl after each validation, and ends training once `folder`/stop exists:
    files reach every launcher's processes, on this machine, a node of a cluster, or a worker of Ray.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False
        """Whether training was asked to end before its last epoch."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the report and looks for the file `stop`."""
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
