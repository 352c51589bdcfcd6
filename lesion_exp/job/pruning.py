"""What a cell of a sweep says about itself after each epoch, and how it hears that it may stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lesion_exp.job.run_context import REPORTS_FILE, STOP_FILE
from lesion_exp.task import training_length


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
