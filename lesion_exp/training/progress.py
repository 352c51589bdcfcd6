"""Shows the progress of a training, and measures its speed."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from lesion_exp.evaluation.registry import WATCHED_METRIC, is_better
from lesion_exp.progress import Stage, duration
from lesion_exp.scheduler.schedule import ENDLESS
from lesion_exp.task import training_length
from lesion_exp.tracking.lightning_logger import TrackingLogger, last_step

log = logging.getLogger(__name__)


class TrainingProgress(ProgressBar):
    """Shows a progress bar for each epoch, with images per second, and afterwards a line with its results.

    It logs `time/images_per_second` of the training steps and `time/epoch_seconds`, validation included.
    """

    def __init__(self) -> None:
        super().__init__()
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
        """Logs the times of the epoch and shows its line."""
        seconds = time.perf_counter() - self._epoch_started
        measured = {"time/epoch_seconds": seconds}
        if self._step_seconds:
            measured["time/images_per_second"] = self._images / self._step_seconds
            self.rates.append(measured["time/images_per_second"])
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=last_step(trainer))
        line = self._line(trainer, pl_module.mean_loss(), measured)
        if self._shown:
            log.info("%s", line)
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.write_log(line)

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far."""
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
        if "val/loss" in values:
            words.append(f"val/loss {values['val/loss']:.3f}")
        if WATCHED_METRIC in values:
            watched = values[WATCHED_METRIC]
            if self._best is None or is_better(WATCHED_METRIC, watched, self._best[0]):
                self._best = (watched, epoch)
            words.append(f"{WATCHED_METRIC} {watched:.3f} (best {self._best[0]:.3f}, epoch {self._best[1]})")
        if "time/images_per_second" in measured:
            words.append(f"{measured['time/images_per_second']:.0f} images/s")
        self._epochs_here += 1
        left = (time.perf_counter() - self._fit_started) / self._epochs_here * max(num_epochs - epoch, 0)
        return "  ".join(words) + (f"  {duration(left)} left" if left else "")


def _of(epoch: int, num_epochs: int) -> str:
    """The number of an epoch, such as `3/20`; a training without a last epoch has no total."""
    return str(epoch) if num_epochs == ENDLESS else f"{epoch:>{len(str(num_epochs))}}/{num_epochs}"
