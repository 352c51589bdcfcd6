"""Lightning's predict loop over the batches of a plan, on one device or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from lesion_exp.data.datamodule import resolve_num_workers
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import UserError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.model.precision import has_gpu
from lesion_exp.model.prediction import prediction_trainer
from lesion_exp.model.predictor import Batch, Predicted, Predictor, collate
from lesion_exp.model.restore import restore
from lesion_exp.progress import Stage
from lesion_exp.verbs.predict.heat_maps import HeatMaps
from lesion_exp.verbs.predict.plan import Plan, read_images
from lesion_exp.verbs.predict.results import GrowingCsv, Results

Numbered = tuple[int, Batch]


class Batches(Dataset[Numbered]):
    """The batches of a table of images, decoded in the processes of a loader; a broken file never raises."""

    def __init__(self, images: pd.DataFrame, predictor: Predictor, batch_size: int) -> None:
        self.images = images
        self.preparation = predictor.preparation
        self.batch_size = batch_size
        encoded = None if predictor.encoder is None else predictor.encoder.encode(images)
        self.metadata = None if encoded is None else torch.from_numpy(encoded)

    def __getitem__(self, number: int) -> Numbered:
        begin = number * self.batch_size
        rows = self.images.iloc[begin : begin + self.batch_size].to_dict("records")
        samples = [self._sample(begin + position, row) for position, row in enumerate(rows)]
        return number, collate([row["image"] for row in rows], samples)

    def _sample(self, position: int, row: dict[Any, Any]) -> Sample | str:
        if row["error"]:
            return str(row["error"])
        try:
            pictures = {name: row.get(name) for name in self.preparation.companions}
            sample = self.preparation.from_files(row["image_path"], **pictures)
        except UserError as error:
            return str(error)
        except Exception as error:  # one file, whatever is wrong with it, must not end the prediction of all others
            return f"expected an image that can be prepared, but {type(error).__name__}: {error}"
        if self.metadata is not None:
            sample["metadata"] = self.metadata[position]
        return sample


class _Module(pl.LightningModule):
    """What Lightning's loop calls; holds the network, so that it is brought to the device."""

    def __init__(self, predictor: Predictor, plan: Plan) -> None:
        super().__init__()
        self.predictor = predictor
        self.classifier = predictor.classifier
        self.batch_size = plan.batch_size
        self.heat_maps = None if plan.heat_maps is None else HeatMaps(predictor, Path(plan.heat_maps))

    def predict_step(self, batch: Numbered, batch_idx: int) -> tuple[int, Predicted]:
        number, images = batch
        predicted = self.predictor.compute(images)
        if self.heat_maps is not None:
            drawn = self.heat_maps.add(predicted.table, images, number * self.batch_size)
            predicted = predicted._replace(table=drawn)
        return number, predicted


class _Writer(Callback):
    """Keeps every batch as it comes; the first process also lets the csv grow and shows how far all are."""

    def __init__(self, results: Results, num_done: int) -> None:
        self.results = results
        self.is_first = os.environ.get("LOCAL_RANK", "0") == "0"
        self.csv = GrowingCsv(results) if self.is_first else None
        self.num_done = num_done
        self.stage = Stage("predicting", results.total, "images", shown=self.is_first)

    def on_predict_start(self, *_: Any) -> None:
        """All processes are there now."""
        self.stage.restart()

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        number, predicted = outputs
        self.results.add(number, predicted)
        self.stage.advance(len(predicted.table) * trainer.world_size)
        if self.csv is not None:
            self.csv.grow()


def predict_plan(folder: Path) -> None:
    """Predicts what is missing of the plan in `folder`; with several devices this process is one of their ranks."""
    plan, images = Plan.read(folder), read_images(folder)
    calibrator = None if plan.calibrator is None else read_calibrator(dict(plan.calibrator))
    restored = restore(plan.config, Path(plan.checkpoint))
    predictor = Predictor(restored, calibrator, top=plan.top, with_features=plan.with_features)
    results = Results(folder, plan, len(images))
    missing = results.missing()
    writer = _Writer(results, results.total - results.num_images(missing))
    trainer = prediction_trainer(plan.config["trainer"], plan.devices, [writer], inference_mode=plan.heat_maps is None)
    loader = _loader(Batches(images, predictor, plan.batch_size), missing, plan, trainer)
    writer.stage.begin(writer.num_done)
    try:
        trainer.predict(_Module(predictor, plan), dataloaders=loader, return_predictions=False)
    finally:
        writer.stage.end()


def _loader(dataset: Batches, missing: Sequence[int], plan: Plan, trainer: pl.Trainer) -> DataLoader[Numbered]:
    """The batches of this rank: every so-manieth of those that are missing."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    mine = list(missing[rank :: trainer.world_size])
    on_gpu = has_gpu(plan.config["trainer"]["accelerator"])
    num_workers = min(resolve_num_workers(plan.num_workers, on_gpu, decodes=True), max(len(mine) - 1, 0))
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=mine,
        num_workers=num_workers,
        pin_memory=on_gpu,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
