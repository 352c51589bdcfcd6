"""What a person sees and what is measured while a run trains: the bar, a line an epoch, images a second."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lesion_exp.epoch_metric import WATCHED_METRIC
from lesion_exp.scheduler.length import ENDLESS
from lesion_exp.task import training_length
from lesion_exp.tracking.lightning_logger import TrackingLogger


def progress_console() -> Console:
    """Standard error as a console; plain and 100 columns wide when it is no terminal."""
    return Console(file=sys.stderr, stderr=True, width=None if sys.stderr.isatty() else 100, highlight=False)


class TrainingProgress(ProgressBar):
    """A Rich bar with images a second and remaining time on a terminal; everywhere a line after each epoch.

    It also measures: `time/images_per_second` over the training steps alone and `time/epoch_seconds` with validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = progress_console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._images = 0
        self._step_seconds = 0.0
        self._mark = 0.0
        self._fit_started = 0.0
        self._epoch_started = 0.0
        self._epochs_here = 0
        self._best: tuple[float, int] | None = None
        self.rates: list[float] = []

    def disable(self) -> None:
        """Nothing to switch off: Lightning calls this on the ranks that do not print."""
        self.console.quiet = True

    def enable(self) -> None:
        """Prints again; Lightning calls this after a finder, which it runs with the bar disabled."""
        self.console.quiet = not self.trainer.is_global_zero

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Only the first rank prints."""
        super().setup(trainer, pl_module, stage)
        self.console.quiet = not trainer.is_global_zero

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Opens the bar."""
        self._fit_started = time.perf_counter()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            self._bar.start()
        if trainer.fit_loop.restarted_mid_epoch:  # Lightning then calls no on_train_epoch_start
            self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Starts the epoch's clock."""
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: pl.Trainer) -> None:
        self._images, self._step_seconds = 0, 0.0
        self._epoch_started = self._mark = time.perf_counter()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            name = f"epoch {_of(trainer.current_epoch + 1, training_length(trainer).num_epochs)}"
            self._task = self._bar.add_task(name, total=trainer.num_training_batches, note="")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch's images and the time since the batch before."""
        now = time.perf_counter()
        if batch_idx > 0:  # the first step of an epoch carries starting costs: workers, memory
            self._images += len(batch["label"]) * trainer.world_size
            self._step_seconds += now - self._mark
        self._mark = now
        if self._bar is not None and self._task is not None:
            rate = f"{self._images / self._step_seconds:.0f} images/s" if self._step_seconds else ""
            self._bar.update(self._task, completed=batch_idx + 1, note=rate)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Logs the epoch's times and prints its line."""
        seconds = time.perf_counter() - self._epoch_started
        measured = {"time/epoch_seconds": seconds}
        if self._step_seconds:
            measured["time/images_per_second"] = self._images / self._step_seconds
            self.rates.append(measured["time/images_per_second"])
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=trainer.global_step)
        line = self._line(trainer, pl_module.mean_loss(), measured)
        self.console.print(line, soft_wrap=True)
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.write_log(line)

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the best epoch of a run that stopped."""
        self._best = state_dict["best"]

    def on_train_end(self, *_: Any) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Closes the bar, so that the message is not drawn over."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _line(self, trainer: pl.Trainer, loss: float, measured: dict[str, float]) -> str:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        epoch, num_epochs = trainer.current_epoch + 1, training_length(trainer).num_epochs
        words = [f"epoch {_of(epoch, num_epochs)}"]
        words.append(f"train/loss {loss:.3f}")
        if "val/loss" in values:
            words.append(f"val/loss {values['val/loss']:.3f}")
        if WATCHED_METRIC in values:
            watched = values[WATCHED_METRIC]
            if self._best is None or watched > self._best[0]:
                self._best = (watched, epoch)
            words.append(f"{WATCHED_METRIC} {watched:.3f} (best {self._best[0]:.3f}, epoch {self._best[1]})")
        if "time/images_per_second" in measured:
            words.append(f"{measured['time/images_per_second']:.0f} images/s")
        self._epochs_here += 1
        left = (time.perf_counter() - self._fit_started) / self._epochs_here * max(num_epochs - epoch, 0)
        return "  ".join(words) + (f"  {_duration(left)} left" if left else "")


def _of(epoch: int, num_epochs: int) -> str:
    """The number of an epoch, and of how many; a training without a last epoch has no such number."""
    return str(epoch) if num_epochs == ENDLESS else f"{epoch:>{len(str(num_epochs))}}/{num_epochs}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
