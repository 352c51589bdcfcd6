"""A part of a split as samples for the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from lesion_exp.augmentation.on_device import Plan, on_canvas
from lesion_exp.augmentation.pipeline import AugmentationPipeline, Augmented
from lesion_exp.data.store import ImageStore
from lesion_exp.errors import DataError
from lesion_exp.evaluation.predictions import is_unknown
from lesion_exp.image_file import UInt8Array, decode, read_image, read_mask

MaskMode = Literal["none", "overlay", "crop", "channel", "background"]
OUTLINE: Final = (0, 255, 0)
"""Colour of the drawn outline, RGB: green does not occur in skin."""


def crop_to_lesion(image: UInt8Array, mask: UInt8Array, margin: float) -> tuple[UInt8Array, UInt8Array]:
    """`image` (H, W, 3) and `mask` (H, W) cut to the lesion's box, widened by `margin` of its sides on each side.

    An empty mask leaves both as they are.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return image, mask
    extra_y = round(margin * (rows[-1] - rows[0] + 1))
    extra_x = round(margin * (columns[-1] - columns[0] + 1))
    box = np.s_[
        max(rows[0] - extra_y, 0) : rows[-1] + 1 + extra_y,
        max(columns[0] - extra_x, 0) : columns[-1] + 1 + extra_x,
    ]
    return image[box], mask[box]


def apply_mask(image: UInt8Array, mask: UInt8Array, mode: MaskMode) -> UInt8Array:
    """`image` uint8 (S, S, 3) after augmentation with `mask` (S, S) applied; (S, S, 4) for `channel`."""
    if mode == "overlay":
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, image.shape[0] // 112)
        return np.asarray(cv2.drawContours(image.copy(), outlines, -1, OUTLINE, thickness), dtype=np.uint8)
    if mode == "channel":
        return np.dstack([image, mask])
    if mode == "background":
        return np.where(mask[:, :, None] > 0, image, 0).astype(np.uint8)
    assert mode in {"none", "crop"}, mode
    return image


NO_CLASS: Final = -1
"""The label of an image whose class the network does not know; only in what is predicted, never in training."""


class Sample(TypedDict, total=False):
    """What the loader yields; in a batch every value has a leading dimension N."""

    image: Tensor
    """uint8 (C, S, S), RGB, and the lesion mask as fourth channel where asked for."""
    clinical: Tensor
    """uint8 (3, S, S), the clinical photograph; only with `dataset.view=both`."""
    metadata: Tensor
    """float32 (D,); only where the backbone fuses metadata."""
    label: Tensor
    """int64 (), position in the class order; `NO_CLASS` for an image of an unknown class."""
    index: Tensor
    """int64 (), position in the part's table."""
    plan: Plan
    """With `augmentation.device=gpu`, in training: what is still to be done to `image`, then uint8 (3, H, W)."""


@dataclass(frozen=True)
class SampleOptions:
    """How a stored image becomes a sample; the same for every part."""

    mask: MaskMode = "none"
    mask_margin: float = 0.15
    clinical: bool = False
    """Whether a sample has the clinical photograph beside the dermoscopic one."""
    seed: int = 0

    @property
    def in_channels(self) -> int:
        """Channels of `Sample.image`."""
        return 4 if self.mask == "channel" else 3


class LesionDataset(Dataset[Sample]):
    """Samples of `table`, addressed by (epoch, position): the augmentation is a function of (seed, epoch, position).

    With `training=False` nothing is random and the epoch does not matter.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        store: ImageStore,
        pipeline: AugmentationPipeline,
        classes: Sequence[str],
        options: SampleOptions,
        metadata: npt.NDArray[np.float32] | None = None,
        *,
        training: bool,
    ) -> None:
        places = {name: place for place, name in enumerate(classes)}
        labels = [
            NO_CLASS if unknown else places[label]
            for label, unknown in zip(table["label"], is_unknown(table), strict=True)
        ]
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.store = store
        self.rows = store.rows(table["image_id"])
        self.pipeline = pipeline
        self.options = options
        self.metadata = None if metadata is None else torch.from_numpy(metadata)
        self.training = training
        self.canvas = store.extent(self.rows) if training and pipeline.trains_on_device else (0, 0)
        """Height and width that hold every image, where they are augmented a batch at a time."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, position = key
        row = int(self.rows[position])
        seed = (self.options.seed, epoch, position)
        if self.training and self.pipeline.trains_on_device:
            image, plan = self.pipeline.plan(self.store.read(row), seed)
            canvas = torch.from_numpy(on_canvas(image, *self.canvas)).permute(2, 0, 1)
            sample = Sample(image=canvas, plan=plan, label=self.labels[position], index=torch.tensor(position))
            return self._with_metadata(sample, position)
        sample = Sample(
            image=self._image(row, "pixels", seed), label=self.labels[position], index=torch.tensor(position)
        )
        if self.options.clinical:
            sample["clinical"] = self._image(row, "clinical", (*seed, 1))
        return self._with_metadata(sample, position)

    def _with_metadata(self, sample: Sample, position: int) -> Sample:
        if self.metadata is not None:
            sample["metadata"] = self.metadata[position]
        return sample

    def _image(self, row: int, plane: str, seed: tuple[int, ...]) -> Tensor:
        image = self.store.read(row, plane)
        masked = self.options.mask != "none" and plane == "pixels"
        mask = self.store.read(row, "masks") if masked else None

        def augment(image: UInt8Array, mask: UInt8Array | None) -> Augmented:
            if self.training:
                return self.pipeline.train(image, mask, seed)
            return self.pipeline.evaluate(image, mask)

        return network_input(image, mask, self.options, augment)


def network_input(
    image: UInt8Array,
    mask: UInt8Array | None,
    options: SampleOptions,
    augment: Callable[[UInt8Array, UInt8Array | None], Augmented],
) -> Tensor:
    """What a network sees of `image`, uint8 (H, W, 3) at the store's size, and its mask: uint8 (C, S, S)."""
    if mask is not None and options.mask == "crop":
        image, mask = crop_to_lesion(image, mask, options.mask_margin)
    augmented, moved = augment(image, mask)
    if moved is not None:
        augmented = apply_mask(augmented, moved, options.mask)
    if not augmented.flags.writeable or not augmented.flags.c_contiguous:  # a view of the store
        augmented = augmented.copy()
    return torch.from_numpy(augmented).permute(2, 0, 1)


def batch_of(samples: list[Sample]) -> Sample:
    """A batch of `samples`; its images lie in memory with the channels last, as they come from the store."""
    batch = Sample()
    for key in samples[0]:
        if key == "plan":
            batch["plan"] = default_collate([sample["plan"] for sample in samples])
            continue
        values = [sample[key] for sample in samples]  # type: ignore[literal-required]
        pictures = values[0].ndim == 3
        stacked = default_collate([value.permute(1, 2, 0) for value in values] if pictures else values)
        batch[key] = stacked.permute(0, 3, 1, 2) if pictures else stacked  # type: ignore[literal-required]
    return batch


@dataclass(frozen=True)
class Preparation:
    """The steps of a run's test part, nothing random."""

    pipeline: AugmentationPipeline
    options: SampleOptions
    short_side: int
    """Of a stored image, in pixels: from that size the pipeline starts."""

    @property
    def companions(self) -> tuple[str, ...]:
        """The columns that name the pictures that the network sees beside the image itself."""
        mask = ("mask_path",) if self.options.mask != "none" else ()
        return (*mask, *(("clinical_path",) if self.options.clinical else ()))

    def from_files(self, image_path: str, mask_path: str | None = None, clinical_path: str | None = None) -> Sample:
        """The images of a sample, from their locators.

        Raises:
            DataError: a file cannot be read, or one is missing that the network needs.
        """
        image = read_image(image_path, self.short_side)
        mask = None
        if self.options.mask != "none":
            if mask_path is None or pd.isna(mask_path):
                raise DataError("it has no lesion mask, which dataset.mask needs")
            mask = read_mask(mask_path, (image.shape[0], image.shape[1]))
        sample = Sample(image=self._input(image, mask))
        if self.options.clinical:
            if clinical_path is None or pd.isna(clinical_path):
                raise DataError("it has no clinical photograph, which dataset.view=both needs")
            sample["clinical"] = self._input(read_image(clinical_path, self.short_side), None)
        return sample

    def from_bytes(self, encoded: bytes, name: str) -> Sample:
        """The image of a sample, from the encoded bytes of a file; for networks that see nothing else.

        Raises:
            DataError: it cannot be decoded; `name` says which it is.
        """
        assert not self.companions, "the network needs further pictures"
        return Sample(image=self._input(decode(encoded, self.short_side, name), None))

    def _input(self, image: UInt8Array, mask: UInt8Array | None) -> Tensor:
        return network_input(image, mask, self.options, self.pipeline.evaluate)
