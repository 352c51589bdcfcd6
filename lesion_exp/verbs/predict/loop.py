"""Predicts the batches of a plan, on one device or on one of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.errors import UserError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.model.device import PredictionDevice, prediction_device
from lesion_exp.model.predictor import Batch, Predicted, Predictor, collate
from lesion_exp.model.restore import restore
from lesion_exp.progress import Stage
from lesion_exp.verbs.predict.plan import PredictionPlan, read_images
from lesion_exp.verbs.predict.results import GrowingCsv, Results

if TYPE_CHECKING:
    from lesion_exp.verbs.predict.heat_maps import HeatMaps

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


class _Written:
    """Stores every batch as soon as it is predicted; the first process also extends the csv and shows the progress."""

    def __init__(self, results: Results, num_done: int, share: Share) -> None:
        self.results = results
        self.csv = GrowingCsv(results) if share.is_first else None
        self.num_processes = share.num_processes
        self.stage = Stage("predicting", results.total, "images", shown=share.is_first)
        self.stage.begin(num_done)

    def add(self, number: int, predicted: Predicted) -> None:
        self.results.add(number, predicted)
        self.stage.advance(len(predicted.table) * self.num_processes)
        if self.csv is not None:
            self.csv.grow()


class Share(NamedTuple):
    """The share of a process in the batches of a plan: with n processes, every n-th one."""

    rank: int = 0
    num_processes: int = 1
    gpu: int = 0
    """The number of its GPU, where there is one."""

    @property
    def is_first(self) -> bool:
        """Whether this process shows the progress."""
        return self.rank == 0


ALL: Final = Share()
"""The share of a process that predicts alone."""


def predict_plan(folder: Path, share: Share = ALL) -> None:
    """Predicts the missing batches of the plan in `folder`; with several processes, those of this one."""
    plan, images = PredictionPlan.read(folder), read_images(folder)
    calibrator = None if plan.calibrator is None else read_calibrator(dict(plan.calibrator))
    restored = restore(plan.config, Path(plan.checkpoint))
    predictor = Predictor(
        restored, calibrator, top=plan.top, with_features=plan.with_features, thresholds=plan.thresholds
    )
    results = Results(folder, plan, len(images))
    missing = results.missing()
    device = prediction_device(plan.config["trainer"], share.gpu)
    device.prepare(predictor.classifier)
    heat_maps = None if plan.heat_maps is None else _heat_maps(predictor, Path(plan.heat_maps))
    mine = [
        number for number in missing if number % share.num_processes == share.rank
    ]  # whatever others have done since
    loader = _loader(Batches(images, predictor, plan.batch_size), mine, plan, device, share.num_processes)
    written = _Written(results, results.total - results.num_images(missing), share)
    try:
        for number, batch in loader:
            moved: Batch = device.moved(batch)
            with device.computing(gradients=heat_maps is not None):
                predicted = predictor.compute(moved)
                if heat_maps is not None:
                    drawn = heat_maps.add(predicted.table, moved, number * plan.batch_size)
                    predicted = predicted._replace(table=drawn)
            written.add(number, predicted)
    finally:
        written.stage.end()


def _heat_maps(predictor: Predictor, folder: Path) -> HeatMaps:
    from lesion_exp.verbs.predict.heat_maps import HeatMaps  # imports what draws pictures

    return HeatMaps(predictor, folder)


def _loader(
    dataset: Batches, mine: Sequence[int], plan: PredictionPlan, device: PredictionDevice, processes: int
) -> DataLoader[Numbered]:
    most = resolve_num_workers(plan.num_workers, device.on_gpu, decodes=True, processes=processes)
    num_workers = min(most, max(len(mine) - 1, 0))
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=list(mine),
        num_workers=num_workers,
        pin_memory=device.on_gpu,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
