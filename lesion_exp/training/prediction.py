"""Predicts a part of the data of a run at its end, on all of its processes, with Lightning's Trainer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.loaders import Part
from lesion_exp.model.prediction import Rows, part_table, rows_of
from lesion_exp.progress import Stage
from lesion_exp.task import LesionClassifier


def predict_in_training(
    trainer: pl.Trainer, classifier: LesionClassifier, datamodule: LesionDataModule, part: Part
) -> pd.DataFrame:
    """Returns the predictions table of `part`: every image once, unknown classes included, the same on every rank."""
    datamodule.trainer = trainer
    loader = datamodule.evaluation_dataloader(part, classifier.options.tta)
    rows = gather_rows(rows_of(trainer.predict(classifier, dataloaders=loader) or []))  # type: ignore[arg-type]
    return part_table(datamodule.parts[part], classifier.options.classes, rows)


def gather_rows(rows: Rows) -> Rows:
    """Returns the rows of all ranks; they evaluate disjoint subsets."""
    parts: list[Any] = [rows]
    if dist.is_available() and dist.is_initialized():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, rows)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


class PartProgress(Callback):
    """Shows the progress of validations and predictions."""

    def __init__(self) -> None:
        self._stage: Stage | None = None

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Shows the progress of a validation below that of the epoch."""
        counts = trainer.num_val_batches
        self._begin(trainer, "validating:", sum(counts), "batches", announced=False)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Counts a batch as done."""
        self._advance(1)

    def on_validation_end(self, *_: Any) -> None:
        """Shows the progress of the epoch again."""
        self._end()

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Shows the progress of a prediction."""
        loader: Any = trainer.predict_dataloaders
        self._begin(trainer, "predicting", len(loader.dataset), "images", announced=True)

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Counts the images of the batch, and those of the other processes."""
        self._advance(len(outputs[0]) * trainer.world_size)

    def on_predict_end(self, *_: Any) -> None:
        """Ends the progress of the prediction."""
        self._end()

    def on_exception(self, *_: Any) -> None:
        """Ends what is shown, so that the message of the error stays readable."""
        self._end()

    def _begin(self, trainer: pl.Trainer, name: str, total: float, unit: str, *, announced: bool) -> None:
        known = None if total == float("inf") else int(total)
        self._stage = Stage(name, known, unit, announced=announced, shown=trainer.is_global_zero)
        self._stage.begin()

    def _advance(self, count: int) -> None:
        if self._stage is not None:
            self._stage.advance(count)

    def _end(self) -> None:
        if self._stage is not None:
            self._stage.end()
        self._stage = None
