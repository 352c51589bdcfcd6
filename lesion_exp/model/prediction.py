"""Predicts a part of a data set with Lightning, every image once, on one process or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback

from lesion_exp.data.datamodule import LesionDataModule, Part
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.model.precision import precision_here
from lesion_exp.process.messages import quiet_libraries
from lesion_exp.progress import Stage
from lesion_exp.task import LesionClassifier, gather_rows


def prediction_trainer(
    config: Mapping[str, Any],
    devices: int | list[int] = 1,
    callbacks: Sequence[Callback] = (),
    *,
    inference_mode: bool = True,
) -> pl.Trainer:
    """Returns a Trainer that predicts on `devices` of this machine, in the precision of `config` (the node `trainer`).

    With `inference_mode=False` a prediction step can compute gradients.
    """
    quiet_libraries()
    accelerator = "cpu" if config["accelerator"] == "cpu" else "auto"
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        precision=precision_here(config["precision"], accelerator),  # type: ignore[arg-type]
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        inference_mode=inference_mode,
        plugins=[LightningEnvironment()],
        use_distributed_sampler=False,  # the samplers know their rank themselves
    )


def predict_part(
    trainer: pl.Trainer, classifier: LesionClassifier, datamodule: LesionDataModule, part: Part
) -> pd.DataFrame:
    """Returns the predictions table of `part`: every image once, unknown classes included, the same on every rank."""
    datamodule.trainer = trainer
    loader = datamodule.evaluation_dataloader(part, as_images=classifier.options.tta != "none")
    batches = trainer.predict(classifier, dataloaders=loader) or []
    index, probs, energy = (torch.cat(column).cpu().float() for column in zip(*batches, strict=True))
    positions, values = gather_rows(index.long().numpy(), torch.column_stack([probs, energy]).numpy())
    rows = datamodule.parts[part].iloc[positions].reset_index(drop=True)
    return predictions_table(rows, values[:, :-1], classifier.options.classes, values[:, -1])


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
