"""Several augmented views of each image, and the data module of self-supervised pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch.utils.data import DataLoader, Dataset

from lesion_exp.data.batches import EvaluationBatches
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, collate_samples

LABELLED: Final = "labelled"
"""Name of the part with the training images whose labels are known; the probe searches it for neighbours."""


class Views(Dataset[list[Sample]]):
    """The augmented views of the images of a data set. The augmentation depends on (seed, epoch, position, view).

    Args:
        images: the images, augmented as in training.
        num_views: the number of views of each image.
    """

    def __init__(self, images: LesionDataset, num_views: int) -> None:
        self.images = images
        self.num_views = num_views

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> list[Sample]:
        return [self.images[(*key, view)] for view in range(self.num_views)]


def collate_views(samples: Sequence[Sequence[Sample]]) -> Sample:
    """Collates the views of N images to a batch with `num_views` * N images: view 0 of all images, then view 1.

    The batch has one label and one position for each image, not for each view.
    """
    num_images = len(samples)
    batch = collate_samples([views[view] for view in range(len(samples[0])) for views in samples])
    for key in ("label", "index"):
        batch[key] = batch[key][:num_images]
    return batch


class PretrainingDataModule(LesionDataModule):
    """Data loaders with views of the training images, and for the probe labelled training and validation images.

    Set the attribute `num_views` before the loaders are made. Data without labels have no probe.
    """

    num_views: int = 2

    @property
    def has_probe(self) -> bool:
        """Whether both training and validation contain labelled images."""
        return LABELLED in self.parts

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the loader of the training images, in the sampler's order."""
        self.training_batches = self._training_batches(self._ranks())
        views = Views(self.dataset("train", training=True), self.num_views)
        return self._loader_of(views, self.training_batches, collate_views)

    def val_dataloader(self) -> Any:
        """Returns the loaders of the probe: labelled training images, and validation images."""
        parts = (LABELLED, "val") if self.has_probe else ()
        return [self._loader_of(self._dataset(part), self._batches_of(part), collate_samples) for part in parts]

    def _dataset(self, part: str) -> LesionDataset:
        rows = self.parts[part]
        return LesionDataset(rows, self.store, self.pipeline, self.classes, self.sample, training=False)

    def _batches_of(self, part: str) -> EvaluationBatches:
        return self._evaluation_batches(part, self._ranks())  # type: ignore[arg-type]
