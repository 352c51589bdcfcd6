"""The LightningDataModule: makes data loaders from a split table and an image store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lesion_exp.augmentation.on_device import apply_plan
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.batches import TrainingBatches
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, SampleOptions, collate_samples
from lesion_exp.data.loaders import LoaderOptions, Part, PartLoaders
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.pseudo_labels import WEIGHT
from lesion_exp.sampler.sampler import IntArray, Sampler, order_of_epoch


class LesionDataModule(PartLoaders, pl.LightningDataModule):
    """Data loaders for the parts of a split.

    The attribute `batch_size` can be changed until the loaders are made, as Lightning's batch-size finder does.

    Args:
        table: the split table.
        store: the image store of the table.
        pipeline: preprocessing and augmentation.
        sampler: the order of the training images.
        classes: the classes in the order of the network's outputs.
        sample: how a stored image becomes a sample.
        loader: batch sizes and number of loader processes.
        metadata: the encoder of metadata, if the network uses them.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        store: ImageStore,
        pipeline: AugmentationPipeline,
        sampler: Sampler,
        classes: Sequence[str],
        sample: SampleOptions,
        loader: LoaderOptions,
        metadata: MetadataEncoder | None = None,
    ) -> None:
        super().__init__(table, store, pipeline, classes, sample, loader, metadata)
        self.sampler = sampler
        self.training_batches: TrainingBatches | None = None
        self.one_batch_an_epoch = False
        """Whether a training step gets all images of the epoch, whatever the batch size."""
        self.soft_targets: torch.Tensor | None = None
        """Logarithms of a teacher's probabilities for the training images, float32 (N, C), if the loss needs them."""

    def dataset(self, part: Part, *, training: bool = False) -> LesionDataset:
        """Returns the samples of `part`; if `training`, augmented and with the loss's values for each image."""
        extras = {"teacher": self.soft_targets, "weight": self.weights()} if training and part == "train" else {}
        given = {name: values for name, values in extras.items() if values is not None}
        return self._samples(part, training=training, extras=given)

    def weights(self) -> torch.Tensor | None:
        """Returns how much each training image counts in the loss, float32 (N,); None if all count equally."""
        rows = self.parts["train"]
        if WEIGHT not in rows or (rows[WEIGHT] == 1).all():
            return None
        return torch.tensor(rows[WEIGHT].to_numpy(np.float32))

    def train_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the training part, in the sampler's order."""
        self.training_batches = self._training_batches(self._ranks())
        features = () if self.features is None else self.features.training
        return self._loader(self.dataset("train", training=True), self.training_batches, features)

    def num_training_batches(self, num_ranks: int) -> int:
        """Returns the number of batches of an epoch on each of `num_ranks` processes, without Lightning's limits.

        Raises:
            ConfigError: an epoch has fewer images than there are processes.
        """
        return len(self._training_batches((0, num_ranks)))

    def smallest_batch(self, num_ranks: int) -> int:
        """Returns the smallest number of images in a batch on each of `num_ranks` processes.

        It is the batch size, or less if an epoch has fewer images.
        """
        return min(self._training_batch_size(), self.images_per_epoch() // (self.loader.together or num_ranks))

    def num_evaluation_batches(self, part: Part, num_ranks: int) -> int:
        """Returns the number of batches of `part` on the first of `num_ranks` processes, without Lightning's limits."""
        return len(self._evaluation_batches(part, (0, num_ranks)))

    def images_per_epoch(self) -> int:
        """Returns the length of the sampler's order, over all ranks."""
        return len(self._order(0))

    def each_once(self) -> bool:
        """Returns whether the sampler draws every training image once an epoch."""
        return np.array_equal(np.sort(self._order(0)), np.arange(len(self.parts["train"])))

    def alike_in_epochs(self) -> bool:
        """Returns whether the sampler draws the same training images in the first two epochs, in any order."""
        return np.array_equal(np.sort(self._order(0)), np.sort(self._order(1)))

    def _order(self, epoch: int) -> IntArray:
        return order_of_epoch(self.sampler, self.parts["train"], np.random.default_rng([self.sample.seed, epoch]))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the validation part."""
        return self.evaluation_dataloader("val")

    def class_counts(self) -> list[int]:
        """Returns the number of training images per class, in the order of the classes.

        An image with a pseudo-label counts by its weight, as in the loss; the sum is rounded, above 0 to at least 1.
        """
        rows = self.parts["train"]
        if WEIGHT in rows:
            sums = rows.groupby("label")[WEIGHT].sum()
            return [max(round(float(sums[name])), 1) if name in sums else 0 for name in self.classes]
        counts = rows["label"].value_counts()
        return [int(counts.get(name, 0)) for name in self.classes]

    def _training_batches(self, ranks: tuple[int, int]) -> TrainingBatches:
        return TrainingBatches(
            self.sampler,
            self.parts["train"],
            self._training_batch_size(),
            self.sample.seed,
            ranks,
            self._progress,
            self.loader.together,
        )

    def _training_batch_size(self) -> int:
        return self.images_per_epoch() if self.one_batch_an_epoch else self.batch_size

    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _processes_here(self) -> int:
        return 1 if self.trainer is None else self.trainer.num_devices

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _progress(self) -> tuple[int, int]:
        """Returns the epoch that begins, and the number of its batches that a resumed run has already trained."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        epoch = self.trainer.current_epoch
        done = loop.epoch_loop.batch_progress.current.ready
        assert self.training_batches is not None
        return epoch, done if done < len(self.training_batches) else 0


def stack_images(dataset: LesionDataset, positions: Sequence[int] | np.ndarray, epoch: int = 0) -> np.ndarray:
    """Returns the images of the samples at `positions` in `epoch` as uint8 (N, S, S, 3) RGB, for a figure."""
    batch = collate_samples([dataset[(epoch, int(position))] for position in positions])
    shown = batch["image"]
    if "plan" in batch:
        shown = apply_plan(shown, batch["plan"], dataset.pipeline.image_size)
    return shown[:, :3].permute(0, 2, 3, 1).numpy()
