"""The LightningDataModule: makes data loaders from a split table and an image store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lesion_exp.augmentation.on_device import apply_plan
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.cores import usable_cores
from lesion_exp.data.batches import EvaluationBatches, TrainingBatches
from lesion_exp.data.features import CachedFeatures, FeatureDataset
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, SampleOptions, collate_samples
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.pseudo_labels import WEIGHT
from lesion_exp.sampler.sampler import Sampler, order_of_epoch

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LoaderOptions:
    """The values of the config keys below `loader`."""

    batch_size: int
    """Images per training batch on each process."""
    num_workers: int | Literal["auto"] = "auto"
    """Loader processes of each process, see `resolve_num_workers`."""
    evaluation_batch_size: int | None = None
    """Images per batch in evaluation; None: twice the batch size."""
    together: int | None = None
    """Number of batches that are used or dropped together if a run is continued with fewer processes than its job asks
    for; see `shard`. It is not a config key."""


def resolve_num_workers(num_workers: int | str, on_gpu: bool, *, decodes: bool = False) -> int:
    """Returns the number of loader processes for this rank.

    `auto` uses few processes if the network runs on the CPU. Loading an image from the store takes a fiftieth of the
    time of the network, and on two or three cores a separate process slows the network's threads down by more than
    loading between the batches would.

    Args:
        num_workers: a number, or `auto`.
        on_gpu: whether the network runs on a GPU.
        decodes: whether the loader decodes image files instead of reading a store.
    """
    if num_workers != "auto":
        return int(num_workers)
    cores = usable_cores()
    if on_gpu:
        return min(cores, 12)
    if decodes:
        return min(cores // 2, 4)
    return 0 if cores < 4 else min(max(cores // 8, 1), 4)


class LesionDataModule(pl.LightningDataModule):
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
        super().__init__()
        self.parts: dict[str, pd.DataFrame] = {
            str(part): rows.reset_index(drop=True) for part, rows in table.groupby("split", sort=True)
        }
        self.store = store
        self.pipeline = pipeline
        self.sampler = sampler
        self.classes = tuple(classes)
        self.sample = sample
        self.loader = loader
        self.metadata = metadata
        self.batch_size = loader.batch_size
        self.training_batches: TrainingBatches | None = None
        self.one_batch_an_epoch = False
        """Whether a training step gets all images of the epoch, whatever the batch size."""
        self.features: CachedFeatures | None = None
        """Features that the loaders yield instead of images, if the body of the network is frozen and the preprocessing
        of the images is not random."""
        self.soft_targets: torch.Tensor | None = None
        """Logarithms of a teacher's probabilities for the training images, float32 (N, C), if the loss needs them."""

    def dataset(self, part: Part, *, training: bool = False) -> LesionDataset:
        """Returns the samples of `part`; if `training`, augmented and with the loss's values for each image."""
        rows = self.parts[part]
        encoded = None if self.metadata is None else self.metadata.encode(rows)
        extras = {"teacher": self.soft_targets, "weight": self.weights()} if training and part == "train" else {}
        return LesionDataset(
            rows,
            self.store,
            self.pipeline,
            self.classes,
            self.sample,
            encoded,
            training=training,
            extras={name: values for name, values in extras.items() if values is not None},
        )

    def weights(self) -> torch.Tensor | None:
        """Returns how much each training image counts in the loss, float32 (N,); None if all count equally."""
        rows = self.parts["train"]
        if WEIGHT not in rows or (rows[WEIGHT] == 1).all():
            return None
        return torch.tensor(rows[WEIGHT].to_numpy(np.float32))

    def train_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the training part, in the sampler's order."""
        self.training_batches = self._training_batches(self._ranks())
        return self._loader(self.dataset("train", training=True), self.training_batches, self.features)

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
        return len(order_of_epoch(self.sampler, self.parts["train"], np.random.default_rng([self.sample.seed, 0])))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the validation part."""
        return self.evaluation_dataloader("val")

    def evaluation_dataloader(self, part: Part, *, as_images: bool = False) -> DataLoader[Sample]:
        """Returns a loader with every image of `part` once over all ranks, without augmentation.

        With `as_images` the loader yields images even if features are cached.
        """
        features = None if as_images else self.features
        return self._loader(self.dataset(part), self._evaluation_batches(part, self._ranks()), features)

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

    def _evaluation_batches(self, part: Part, ranks: tuple[int, int]) -> EvaluationBatches:
        batch_size = self.loader.evaluation_batch_size or 2 * self.batch_size
        num_images = len(self.parts[part])
        batch_size = min(batch_size, max(num_images // ranks[1], 1))  # Lightning refuses a rank without a batch
        return EvaluationBatches(num_images, batch_size, ranks)

    def _loader(
        self,
        images: LesionDataset,
        batches: TrainingBatches | EvaluationBatches,
        features: CachedFeatures | None,
    ) -> DataLoader[Sample]:
        if features is None:
            return self._loader_of(images, batches, collate_samples)
        # a batch of features is one look-up in memory; sending it from another process takes longer
        return self._loader_of(FeatureDataset(images, features), batches, _as_it_is, num_workers=0)

    def _loader_of(
        self,
        dataset: Dataset[Any],
        batches: TrainingBatches | EvaluationBatches,
        collate: Callable[[Any], Sample],
        num_workers: int | None = None,
    ) -> DataLoader[Sample]:
        on_gpu = self._on_gpu()
        if num_workers is None:
            num_workers = resolve_num_workers(self.loader.num_workers, on_gpu)
        generator = torch.Generator()  # a separate one, since making an iterator must not advance the global generator
        generator.manual_seed(self.sample.seed)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=on_gpu,
            persistent_workers=num_workers > 0,
            generator=generator,
            collate_fn=collate,
        )

    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

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


def _as_it_is(batch: Sample) -> Sample:
    return batch


def stack_images(dataset: LesionDataset, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the images of the samples at `positions` in epoch 0 as uint8 (N, S, S, 3) RGB, for a figure."""
    batch = collate_samples([dataset[(0, int(position))] for position in positions])
    shown = batch["image"]
    if "plan" in batch:
        shown = apply_plan(shown, batch["plan"], dataset.pipeline.image_size)
    return shown[:, :3].permute(0, 2, 3, 1).numpy()
