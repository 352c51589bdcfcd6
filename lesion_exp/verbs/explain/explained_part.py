"""The part of a data set that is explained: a run's network, the images, their predictions, and those to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lesion_exp.config.project import Project
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, collate_samples, crop_to_lesion
from lesion_exp.data.lesion_masks import UsableMasks, usable_masks
from lesion_exp.data.store import ImageStore
from lesion_exp.errors import DataError
from lesion_exp.evaluation.failures import first_of_each_lesion
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.predictions import (
    IntArray,
    classes_of,
    known_rows,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.explanation.saliency_map import FloatMap, Mask
from lesion_exp.image_file import UInt8Array, read_mask
from lesion_exp.model.restore import Restored
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import READS_TAG, count_test_set_reads
from lesion_exp.tracking.stored_run import Run, read_stored_table
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training.data import SplitData
from lesion_exp.verbs.explain.request import ExplanationRequest

_AT_ONCE: Final = 16


@dataclass(frozen=True)
class ExplainedPart:
    """A run's network with the images of a part and their predictions."""

    run: Run
    config: Mapping[str, Any]
    part: str
    images: PartImages
    table: pd.DataFrame
    """Predictions table, with rows in the order of the images."""
    device: torch.device

    def maps(self, explainer: Explainer, positions: IntArray, column: str = "prediction") -> list[FloatMap]:
        """Returns the saliency maps, (S, S), of the images at `positions` for the class in the column `column`."""
        classes = self.images.restored.classes
        found: list[FloatMap] = []
        is_one_step = len(positions) <= _AT_ONCE  # such as a row of a gallery
        with Stage("explaining", len(positions), "images", announced=not is_one_step) as stage:
            for begin in range(0, len(positions), _AT_ONCE):
                some = positions[begin : begin + _AT_ONCE]
                network, images = self.images.explained(self.images.samples(some), self.device)
                names = self.table[column].iloc[some]
                targets = torch.tensor([classes.index(name) for name in names], device=self.device)
                found += list(explainer(network, images, targets).cpu().numpy())
                stage.advance(len(some))
        return found


def open_part(run: Run, request: ExplanationRequest, project: Project) -> ExplainedPart:
    """Opens the part of `run` that `request` asks for; the first read of a test part is counted.

    Raises:
        ConfigError: the run has no network or has not finished.
        DataError: checkpoints or data are missing or have changed.
    """
    trained = trained_run(run, project, request.places)
    config = trained.job_config("an explanation")
    part = request.part or ("test" if READS_TAG in run.tags else "val")
    network = trained.network(request.checkpoint)
    split = trained.data()
    rows = known_rows(split.table[split.table["split"] == part]).reset_index(drop=True)
    kept = None
    if request.checkpoint == "best":
        kept = read_stored_table(run, artifacts.predictions(part))
    table = network.predict(rows, split.loaded.store) if kept is None else known_rows(kept)
    if set(table["row_id"]) != set(rows["row_id"]):
        raise DataError(
            f"expected predictions of the {part} part of run {run.run_id}, but those that it stores are of other "
            f"images; explain another run, or other weights (checkpoint=last)"
        )
    table = table.set_index("row_id", drop=False).loc[rows["row_id"]].reset_index(drop=True)
    if part == "test" and READS_TAG not in run.tags:
        _count_reading(run, split)
    on_gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    images = PartImages(network, rows, split.loaded.store, split.loaded.table)
    return ExplainedPart(run, config, part, images, table, device)


def _count_reading(run: Run, split: SplitData) -> None:
    readings = count_test_set_reads(run.store, split.loaded.data, split.split_hash)
    run.store.client.set_tag(run.run_id, READS_TAG, readings + 1)


Kind = Literal["right", "most confident wrong", "wrong"]
KINDS: Final[tuple[Kind, ...]] = ("right", "most confident wrong", "wrong")
SEED: Final = 0
"""The seed of all draws, so that every method shows the same images."""

Selection = dict[str, dict[Kind, IntArray]]
"""Positions in the predictions table, by true class and kind."""


def gallery_positions(table: pd.DataFrame, count: int) -> Selection:
    """Chooses the images to show for each class with images.

    These are `count` random images with right predictions, the `count` wrong ones with the highest probabilities,
    highest first, and `count` random other wrong ones. No lesion is shown twice.
    """
    probs, true, predicted = probabilities(table), true_classes(table), predicted_classes(table)
    confidence = probs[np.arange(len(probs)), predicted]
    lesion, _ = lesion_of(table)
    rng = np.random.default_rng(SEED)
    chosen: Selection = {}
    for position, name in enumerate(classes_of(table)):
        mine = true == position
        if not mine.any():
            continue
        right, wrong = np.flatnonzero(mine & (predicted == true)), np.flatnonzero(mine & (predicted != true))
        surest = first_of_each_lesion(table, wrong[np.argsort(-confidence[wrong], kind="stable")])[:count]
        shown = _of_new_lesions(right, lesion, surest, count, rng)
        others = _of_new_lesions(wrong, lesion, np.concatenate([surest, shown]), count, rng)
        chosen[name] = {"right": shown, "most confident wrong": surest, "wrong": others}
    return chosen


def drawn_positions(num_images: int, wanted: int) -> IntArray:
    """Returns `wanted` random positions below `num_images`, or all of them, in ascending order."""
    return _drawn(np.arange(num_images), wanted, np.random.default_rng(SEED))


def _of_new_lesions(
    positions: IntArray, lesion: IntArray, shown: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """`count` random `positions` in ascending order, of different lesions that do not occur at `shown`."""
    order = rng.permutation(positions[~np.isin(lesion[positions], lesion[shown])])
    _, first = np.unique(lesion[order], return_index=True)
    return np.sort(order[np.sort(first)][:count]).astype(np.int64)


def _drawn(positions: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    if len(positions) <= count:
        return positions.astype(np.int64)
    return np.sort(rng.choice(positions, count, replace=False)).astype(np.int64)


class PartImages:
    """The images of a part, by position.

    Args:
        restored: the network, with the preparation of its images.
        rows: the rows of the images in the data set's table.
        store: the decoded images.
        table: the rows of all images of the data set.
    """

    def __init__(self, restored: Restored, rows: pd.DataFrame, store: ImageStore, table: pd.DataFrame) -> None:
        self.restored = restored
        self.rows = rows.reset_index(drop=True)
        self.table = table
        self.dataset: LesionDataset = restored.data(self.rows.assign(split="test"), store).dataset("test")

    @cached_property
    def _masks(self) -> UsableMasks:
        return usable_masks(self.rows, self.dataset.store, self.table)

    @property
    def has_masks(self) -> bool:
        """Whether any of the images has a lesion mask that can be used."""
        return bool(self._masks.places)

    @property
    def mask_notes(self) -> tuple[str, ...]:
        """What is assumed of the lesion masks."""
        return self._masks.notes if self.has_masks else ()

    def samples(self, positions: Sequence[int] | np.ndarray) -> Sample:
        """Returns the samples at `positions` as a batch."""
        batch: Sample = collate_samples([self.dataset[(0, int(position))] for position in positions])
        return batch

    def explained(self, batch: Sample, device: torch.device) -> tuple[ExplainedNetwork, Tensor]:
        """Returns the network, with the further inputs of the images of `batch`, and these images, normalised."""
        classifier = self.restored.classifier.to(device)
        companions: dict[str, Any] = {}
        if "clinical" in batch:
            companions["clinical"] = classifier.normalize(batch["clinical"].to(device))
        if "metadata" in batch:
            companions["metadata"] = batch["metadata"].to(device)
        network = ExplainedNetwork(classifier, classifier.backbone.body, companions)
        return network, classifier.normalize(batch["image"].to(device))

    def mask(self, position: int) -> Mask | None:
        """Returns the lesion mask, (S, S), of the square that the network sees; None if there is none to use."""
        locator = self._masks.places.get(str(self.rows["image_id"].iloc[position]))
        if locator is None:
            return None
        image: UInt8Array = self.dataset.store.read(int(self.dataset.rows[position]))
        mask = read_mask(locator, (image.shape[0], image.shape[1]), any_proportions=True)
        if self.dataset.options.mask == "crop":
            image, mask = crop_to_lesion(image, mask, self.dataset.options.mask_margin)
        _, moved = self.dataset.pipeline.evaluate(image, mask)
        assert moved is not None, "the pipeline returns a mask if it gets one"
        return moved > 0 if moved.any() else None
