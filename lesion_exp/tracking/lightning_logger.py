"""A Lightning logger that passes metrics to a run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger

from lesion_exp.tracking.run import TrackedRun


def last_step(trainer: pl.Trainer) -> int:
    """Returns the last training step, counted from 0, at which Lightning logs the metrics of an epoch that ends."""
    return max(trainer.global_step - 1, 0)


class TrackingLogger(Logger):
    """A Lightning logger over a run; on other ranks than the first, `run` is None and nothing is logged.

    Metric names are unchanged, and steps are Lightning's global steps. The metric `epoch` has a value for each
    completed epoch, counted from 1 (see `log_epoch`); Lightning's own, which has a value for every step, is left out.
    The caller logs parameters and artifacts and finishes the run, which does not end with `fit`.
    """

    def __init__(self, run: TrackedRun | None, save_dir: Path) -> None:
        super().__init__()
        self._run = run
        self._save_dir = save_dir

    @property
    def name(self) -> str | None:
        """The id of the experiment."""
        return self._run.experiment_id if self._run else None

    @property
    def version(self) -> str | None:
        """The id of the run."""
        return self._run.run_id if self._run else None

    @property
    def save_dir(self) -> str:
        """The folder for files that Lightning writes without being given another one."""
        return str(self._save_dir)

    @property
    def experiment(self) -> TrackedRun | None:
        """The run."""
        return self._run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics in the run."""
        if self._run:
            self._run.log_metrics({name: metrics[name] for name in metrics if name != "epoch"}, step or 0)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], step: int) -> None:
        """Logs the number of a completed epoch, from 1, and its metrics in the run; `step` is `last_step`."""
        if self._run:
            self._run.log_metrics({"epoch": float(epoch), **metrics}, step)

    def write_log(self, text: str) -> None:
        """Appends a line to the run's `log.txt`."""
        if self._run:
            self._run.write_log(text)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing, since the whole config is logged when the run starts."""

    def save(self) -> None:
        """Flushes the data that the run has not uploaded yet to the disk."""
        if self._run:
            self._run.sync()

    def finalize(self, status: str) -> None:
        """Does nothing, since the run does not end with `fit`; its own thread uploads what is left."""
