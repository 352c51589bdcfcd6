"""Data loaders of the parts of a split for prediction: every image once, in order. Training derives from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.choices import NONE
from lesion_exp.cores import cores_of_each
from lesion_exp.data.batches import EvaluationBatches, TrainingBatches
from lesion_exp.data.features import CachedFeatures, FeatureDataset, ViewFeatures
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, SampleOptions, collate_samples
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.data.store import ImageStore

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


def resolve_num_workers(num_workers: int | str, on_gpu: bool, *, decodes: bool = False, processes: int = 1) -> int:
    """Returns the number of loader processes for this rank.

    `auto` uses few processes if the network runs on the CPU. Loading an image from the store takes a fiftieth of the
    time of the network, and on two or three cores a separate process slows the network's threads down by more than
    loading between the batches would.

    Args:
        num_workers: a number, or `auto`.
        on_gpu: whether the network runs on a GPU.
        decodes: whether the loader decodes image files instead of reading a store.
        processes: number of processes of this machine that load images at once, which share its cores.
    """
    if num_workers != "auto":
        return int(num_workers)
    cores = cores_of_each(processes)
    if on_gpu:
        return min(cores, 12)
    if decodes:
        return min(cores // 2, 4)
    return 0 if cores < 4 else min(max(cores // 8, 1), 4)


class PartLoaders:
    """Data loaders that yield the images of a part without augmentation.

    Args:
        table: the split table.
        store: the image store of the table.
        pipeline: preprocessing and augmentation.
        classes: the classes in the order of the network's outputs.
        sample: how a stored image becomes a sample.
        loader: batch sizes and number of loader processes.
        metadata: the encoder of metadata, if the network uses them.
        on_gpu: whether the network runs on a GPU.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        store: ImageStore,
        pipeline: AugmentationPipeline,
        classes: Sequence[str],
        sample: SampleOptions,
        loader: LoaderOptions,
        metadata: MetadataEncoder | None = None,
        *,
        on_gpu: bool = False,
    ) -> None:
        super().__init__()
        self.parts: dict[str, pd.DataFrame] = {
            str(part): rows.reset_index(drop=True) for part, rows in table.groupby("split", sort=True)
        }
        self.store = store
        self.pipeline = pipeline
        self.classes = tuple(classes)
        self.sample = sample
        self.loader = loader
        self.metadata = metadata
        self.batch_size = loader.batch_size
        self.features: ViewFeatures | None = None
        """Features that the loaders yield instead of images, if the body of the network is frozen and each image is
        seen in a fixed set of views."""
        self._runs_on_gpu = on_gpu

    def dataset(self, part: Part) -> LesionDataset:
        """Returns the samples of `part`, without augmentation."""
        return self._samples(part, training=False, extras={})

    def _samples(self, part: Part, *, training: bool, extras: Mapping[str, torch.Tensor]) -> LesionDataset:
        rows = self.parts[part]
        encoded = None if self.metadata is None else self.metadata.encode(rows)
        return LesionDataset(
            rows, self.store, self.pipeline, self.classes, self.sample, encoded, training=training, extras=extras
        )

    def evaluation_dataloader(self, part: Part, tta: str = NONE) -> DataLoader[Sample]:
        """Returns a loader with every image of `part` once over all ranks, without augmentation.

        It yields features in place of images if those of every view of the test-time augmentation `tta` are kept.
        """
        features = () if self.features is None else self.features.of_tta(tta)
        return self._loader(self.dataset(part), self._evaluation_batches(part, self._ranks()), features)

    def _evaluation_batches(self, part: Part, ranks: tuple[int, int]) -> EvaluationBatches:
        batch_size = self.loader.evaluation_batch_size or 2 * self.batch_size
        num_images = len(self.parts[part])
        batch_size = min(batch_size, max(num_images // ranks[1], 1))  # Lightning refuses a rank without a batch
        return EvaluationBatches(num_images, batch_size, ranks)

    def _loader(
        self,
        images: LesionDataset,
        batches: TrainingBatches | EvaluationBatches,
        features: Sequence[CachedFeatures],
    ) -> DataLoader[Sample]:
        if not features:
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
            num_workers = resolve_num_workers(
                self.loader.num_workers, on_gpu, decodes=self.store.decodes, processes=self._processes_here()
            )
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
        """Returns the rank of this process and the number of processes among which the images are divided."""
        return 0, 1

    def _processes_here(self) -> int:
        """Returns the number of processes of this machine among which the images are divided."""
        return 1

    def _on_gpu(self) -> bool:
        return self._runs_on_gpu


def _as_it_is(batch: Sample) -> Sample:
    return batch
