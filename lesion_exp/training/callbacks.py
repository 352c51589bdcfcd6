"""Lightning callbacks of a training: learning rate, moving average, history of validations, pruning, and progress."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar, WeightAveraging
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.progress import Stage, duration
from lesion_exp.scheduler.schedule import ENDLESS
from lesion_exp.task import training_length
from lesion_exp.tracking.lightning_logger import TrackingLogger, last_step
from lesion_exp.training.run_context import REPORTS_FILE, STOP_FILE
from lesion_exp.training.watched_metrics import Watched

log = logging.getLogger(__name__)


class TrainingProgress(ProgressBar):
    """Shows a progress bar for each epoch, with images per second, and afterwards a line with its results.

    It logs `time/images_per_second` of the training steps and `time/epoch_seconds`, validation included.

    Args:
        watched: the metric by which the best epoch is chosen.
    """

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched
        self._shown = True
        self._stage: Stage | None = None
        self._images = 0
        self._step_seconds = 0.0
        self._mark = 0.0
        self._fit_started = 0.0
        self._epoch_started = 0.0
        self._epochs_here = 0
        self._best: tuple[float, int] | None = None
        self.rates: list[float] = []

    def disable(self) -> None:
        """Hides the bar; Lightning calls this on the ranks that do not print, and before a tuner."""
        self._shown = False

    def enable(self) -> None:
        """Shows the bar again; Lightning calls this after a tuner."""
        self._shown = self.trainer.is_global_zero

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Shows the bar on the first rank only."""
        super().setup(trainer, pl_module, stage)
        self._shown = self._shown and trainer.is_global_zero

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Starts measuring the time of the training."""
        self._fit_started = time.perf_counter()
        if trainer.fit_loop.restarted_mid_epoch:  # Lightning then calls no on_train_epoch_start
            self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Starts measuring the time of the epoch."""
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: pl.Trainer) -> None:
        self._close()
        self._images, self._step_seconds = 0, 0.0
        self._epoch_started = self._mark = time.perf_counter()
        name = f"epoch {_of(trainer.current_epoch + 1, training_length(trainer).num_epochs)}:"
        total = int(trainer.num_training_batches) if trainer.num_training_batches != float("inf") else None
        self._stage = Stage(name, total, "steps", announced=trainer.current_epoch == 0, shown=self._shown)
        self._stage.begin(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch's images and the time since the batch before."""
        now = time.perf_counter()
        if batch_idx > 0:  # the first step of an epoch also starts workers and allocates memory
            self._images += len(batch["label"]) * trainer.world_size
            self._step_seconds += now - self._mark
        self._mark = now
        if self._stage is not None:
            rate = f"{self._images / self._step_seconds:.0f} images/s" if self._step_seconds else ""
            self._stage.reach(batch_idx + 1, rate)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Logs the times of the epoch and shows a line with its results, which the run's log contains in any case."""
        seconds = time.perf_counter() - self._epoch_started
        measured = {"time/epoch_seconds": seconds}
        if self._step_seconds:
            measured["time/images_per_second"] = self._images / self._step_seconds
            self.rates.append(measured["time/images_per_second"])
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=last_step(trainer))
        line = self._line(trainer, pl_module.mean_loss(), measured)
        if self._shown and log.isEnabledFor(logging.INFO):
            log.info("%s", line)
            return
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.write_log(line)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Compares this validation, of which an epoch may have several, with the best one so far."""
        value = trainer.callback_metrics.get(self._watched.metric)
        if trainer.sanity_checking or value is None:
            return
        measured, best = float(value), self._best
        if best is None or math.isnan(best[0]) or self._watched.is_better(measured, best[0]):
            self._best = (measured, trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch of a run that stopped."""
        self._best = state_dict["best"]

    def on_train_end(self, *_: Any) -> None:
        """Closes the bar of the last epoch."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Closes the bar, so that it does not overwrite the error message."""
        self._close()

    def _close(self) -> None:
        if self._stage is not None:
            self._stage.end()
        self._stage = None

    def _line(self, trainer: pl.Trainer, loss: float, measured: dict[str, float]) -> str:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        epoch, num_epochs = trainer.current_epoch + 1, training_length(trainer).num_epochs
        words = [f"epoch {_of(epoch, num_epochs)}"]
        words.append(f"train/loss {loss:.3f}")
        if "val/loss" in values and self._watched.metric != "val/loss":
            words.append(f"val/loss {values['val/loss']:.3f}")
        metric = self._watched.metric
        if metric in values and (epoch == num_epochs or epoch % (trainer.check_val_every_n_epoch or 1) == 0):
            best, of_epoch = self._best or (values[metric], epoch)
            words.append(f"{metric} {values[metric]:.3f} (best {best:.3f}, epoch {of_epoch})")
        if "time/images_per_second" in measured:
            words.append(f"{measured['time/images_per_second']:.0f} images/s")
        self._epochs_here += 1
        left = (time.perf_counter() - self._fit_started) / self._epochs_here * max(num_epochs - epoch, 0)
        return "  ".join(words) + (f"  {duration(left)} left" if left else "")


def _of(epoch: int, num_epochs: int) -> str:
    """The number of an epoch, such as `3/20`; a training without a last epoch has no total."""
    return str(epoch) if num_epochs == ENDLESS else f"{epoch:>{len(str(num_epochs))}}/{num_epochs}"


class LearningRate(Callback):
    """Logs `epoch` and, as `train/lr`, the learning rate at the start of the epoch, at the step of its other metrics.

    The rate is the largest of the optimizer's parameter groups, which is that of the head. One metric, whatever the
    number of groups, lets one chart compare runs with different networks.
    """

    def __init__(self) -> None:
        self._rate: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the learning rate at the start of the epoch, for a run that is resumed in the middle of it."""
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
            raise ConfigError(f"expected trainer.ema_decay between 0 and 1, got {decay}; a usual value is 0.999")
        self.decay = decay
        self._trained: dict[str, Tensor] | None = None
        super().__init__(multi_avg_fn=self._average)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Makes the average on the device that trains, where Lightning puts the module only later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

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
        """Returns the metrics, for a run that is resumed."""
        return {"by_step": self._by_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the metrics of a run that stopped."""
        self._by_step = dict(state_dict["by_step"])

    def up_to(self, num_steps: int) -> tuple[dict[str, float], int]:
        """Returns the metrics of the last validation after at most `num_steps` steps, and their step in the run."""
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
