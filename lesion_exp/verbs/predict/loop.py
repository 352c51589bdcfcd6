"""Lightning's predict loop over the batches of a plan, on one device or several."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from lesion_exp.data.datamodule import resolve_num_workers
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import DataError, UserError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.evaluation.figures.gallery import gallery
from lesion_exp.evaluation.figures.style import labels
from lesion_exp.explanation.saliency_map import overlay
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.heat_maps import SaliencyMaps, enlarged, square_of
from lesion_exp.model.precision import has_gpu
from lesion_exp.model.prediction import prediction_trainer
from lesion_exp.model.predictor import Batch, Predicted, Predictor, collate
from lesion_exp.model.restore import restore
from lesion_exp.progress import Stage
from lesion_exp.verbs.predict.plan import PredictionPlan, read_images
from lesion_exp.verbs.predict.results import GrowingCsv, Results

COLUMN: Final = "gradcam"
"""Column of the results with the path of the picture."""
_LONGEST_NAME: Final = 100
_TITLE_WIDTH: Final = 26
"""Characters of a line above a picture."""


class HeatMaps:
    """Draws pictures of what the network sees, each beside the Grad-CAM map of the predicted class, into `folder`.

    It needs gradients, so it cannot be used in torch's inference mode.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.saliency = SaliencyMaps(predictor)
        self.classes = predictor.classes
        self.labels = dict(zip(self.classes, labels(self.classes, _TITLE_WIDTH, 2), strict=True))
        self.folder = folder

    def add(self, table: pd.DataFrame, batch: Batch, first: int) -> pd.DataFrame:
        """Draws the pictures of a batch and returns `table` with their paths.

        Args:
            table: the predictions of `batch`.
            batch: the images.
            first: number of the first of them among all images.

        Raises:
            DataError: a picture cannot be written.
        """
        paths: list[str | None] = [None] * len(table)
        if batch.sample is not None:
            readable = [row for row, error in enumerate(batch.errors) if not error]
            targets = [self.classes.index(name) if name in self.classes else None for name in table["prediction"]]
            maps = self.saliency.maps(batch.sample, [targets[row] or 0 for row in readable])
            for place, row in enumerate(readable):
                if targets[row] is not None:
                    square = square_of(batch.sample, place)
                    file = f"{first + row:06d}_{_stem(batch.names[row])}.png"
                    paths[row] = self._draw(square, maps[place], file, self._titles(table.iloc[row], batch.names[row]))
        return table.assign(**{COLUMN: pd.Series(paths, dtype=object, index=table.index)})[
            [*(name for name in table if name != "error"), COLUMN, "error"]
        ]

    def _titles(self, row: pd.Series, name: str) -> tuple[str, str]:
        predicted = row["prediction"]
        probability = f"probability {row[f'p_{predicted}']:.3f}"
        return f"{PurePosixPath(name).name}\nas the network sees it", f"{self.labels[predicted]}\n{probability}"

    def _draw(
        self, square: UInt8Array, saliency: npt.NDArray[np.floating[Any]], name: str, titles: tuple[str, str]
    ) -> str:
        path = self.folder / name
        picture = saliency_picture(square, saliency, titles)
        try:
            picture.save(path)
        except OSError as error:
            raise DataError(
                f"expected to write a picture to {path}, got: {error}; check the folder and the free space"
            ) from error
        return str(path)


def saliency_picture(
    square: UInt8Array, saliency: npt.NDArray[np.floating[Any]], titles: tuple[str, str]
) -> Image.Image:
    """A picture of `square`, uint8 (S, S, 3) RGB, beside the map `saliency`, float (h, w), over it, with titles."""
    seen = enlarged(square)
    return gallery(np.stack([seen, overlay(seen, saliency)]), titles, tile=len(seen))


def _stem(name: str) -> str:
    """The name of a file, as part of the name of another file."""
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem)[:_LONGEST_NAME]


Numbered = tuple[int, Batch]


class Batches(Dataset[Numbered]):
    """The batches of a table of images, decoded in the worker processes of a loader; a broken file never raises."""

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
    """The module of Lightning's predict loop; it holds the network, so that Lightning moves it to the device."""

    def __init__(self, predictor: Predictor, plan: PredictionPlan) -> None:
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
    """Stores every batch as soon as it is predicted; the first process also extends the csv and shows the progress."""

    def __init__(self, results: Results, num_done: int) -> None:
        self.results = results
        self.is_first = os.environ.get("LOCAL_RANK", "0") == "0"
        self.csv = GrowingCsv(results) if self.is_first else None
        self.num_done = num_done
        self.stage = Stage("predicting", results.total, "images", shown=self.is_first)

    def on_predict_start(self, *_: Any) -> None:
        """Restarts the clock once all processes are ready."""
        self.stage.restart()

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        number, predicted = outputs
        self.results.add(number, predicted)
        self.stage.advance(len(predicted.table) * trainer.world_size)
        if self.csv is not None:
            self.csv.grow()


def predict_plan(folder: Path) -> None:
    """Predicts the missing batches of the plan in `folder`; with several devices, those of this process's rank."""
    plan, images = PredictionPlan.read(folder), read_images(folder)
    calibrator = None if plan.calibrator is None else read_calibrator(dict(plan.calibrator))
    restored = restore(plan.config, Path(plan.checkpoint))
    predictor = Predictor(
        restored, calibrator, top=plan.top, with_features=plan.with_features, thresholds=plan.thresholds
    )
    results = Results(folder, plan, len(images))
    missing = results.missing()
    writer = _Writer(results, results.total - results.num_images(missing))
    trainer = prediction_trainer(plan.config["trainer"], plan.devices, [writer], inference_mode=plan.heat_maps is None)
    loader = _loader(Batches(images, predictor, plan.batch_size), missing, plan, trainer)
    writer.stage.begin(writer.num_done)
    try:
        trainer.predict(_Module(predictor, plan), dataloaders=loader, return_predictions=False)
        trainer.strategy.barrier()  # the other processes end with the first one, which may have had less to do
    finally:
        writer.stage.end()


def _loader(
    dataset: Batches, missing: Sequence[int], plan: PredictionPlan, trainer: pl.Trainer
) -> DataLoader[Numbered]:
    """A loader of the missing batches of this rank: with n ranks, every n-th of them."""
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
