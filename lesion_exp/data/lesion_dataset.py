"""Samples for the network: the data set of a part of a split, and the same preprocessing for single images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from lesion_exp.augmentation.fixed_views import FixedView, num_views, views_of_epoch
from lesion_exp.augmentation.on_device import Plan, on_canvas
from lesion_exp.augmentation.pipeline import AugmentationPipeline, Augmented
from lesion_exp.choices import FLIPS8
from lesion_exp.data.lesion_masks import Squash
from lesion_exp.data.store import ImageStore
from lesion_exp.errors import DataError
from lesion_exp.evaluation.predictions import is_unknown
from lesion_exp.evaluation.tta import symmetry
from lesion_exp.image_file import UInt8Array, check_mask, decode, read_image, read_mask

MaskMode = Literal["none", "overlay", "crop", "channel", "background"]
OUTLINE: Final = (0, 255, 0)
"""Colour of the outline of the lesion, RGB. Green does not occur in skin."""
NO_CLASS: Final = -1
"""The label of an image of an unknown class. It does not occur in training."""


def crop_to_lesion(image: UInt8Array, mask: UInt8Array, margin: float) -> tuple[UInt8Array, UInt8Array]:
    """Crops `image` (H, W, 3) and `mask` (H, W) to the lesion's bounding box, enlarged by `margin` on each side.

    `margin` is a fraction of the box's height and width. With an empty mask, both are returned unchanged.
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
    """Applies the lesion mask to an augmented image.

    Args:
        image: uint8 (S, S, 3) RGB.
        mask: uint8 (S, S) of 0 or 255.
        mode: `overlay` draws the outline, `channel` adds the mask as a fourth channel, `background` blackens the skin
            around the lesion; `crop` was applied before.

    Returns:
        uint8 (S, S, 3), or (S, S, 4) for `channel`.
    """
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


class Sample(TypedDict, total=False):
    """An item of the data set. In a batch, every value has a leading dimension N."""

    image: Tensor
    """uint8 (C, S, S), RGB, with the lesion mask as fourth channel for `dataset.mask=channel`."""
    clinical: Tensor
    """uint8 (3, S, S), the clinical photograph; only with `dataset.view=both`."""
    metadata: Tensor
    """float32 (D,); only if the network uses metadata."""
    features: Tensor
    """Floating point (F,), the features that a frozen network computed from the image; they replace the image."""
    label: Tensor
    """int64 (), position among the classes; `NO_CLASS` for an image of an unknown class."""
    index: Tensor
    """int64 (), position in the part's table."""
    teacher: Tensor
    """float32 (C,), logarithms of the teacher's probabilities for the image without augmentation; only in training with
    loss=distill."""
    weight: Tensor
    """float32 (), how much the image counts in the loss; only in training if the weights differ."""
    plan: Plan
    """The augmentation that is still to be applied to `image`, which is then uint8 (3, H, W); only in training with
    `augmentation.device=gpu`."""


@dataclass(frozen=True)
class SampleOptions:
    """How a stored image becomes a sample, for all parts alike."""

    mask: MaskMode = "none"
    """How the lesion mask is used, see `apply_mask`."""
    mask_margin: float = 0.15
    """With `mask=crop`: margin around the lesion's box, as a fraction of its sides."""
    clinical: bool = False
    """Whether a sample also has the clinical photograph."""
    seed: int = 0
    """Seed of the augmentation."""

    @property
    def in_channels(self) -> int:
        """Channels of `Sample.image`."""
        return 4 if self.mask == "channel" else 3


class LesionDataset(Dataset[Sample]):
    """The samples of a table, indexed by (epoch, position) or, if there are several views, (epoch, position, view).

    The augmentation depends on (seed, epoch, position, view) only. If the pipeline has fixed views of each image, these
    depend on the `image_id` alone, and (seed, epoch, position) on which of them is shown.

    Args:
        table: the table of a part.
        store: the image store that contains its images.
        pipeline: preprocessing and augmentation.
        classes: the classes in the order of the network's outputs.
        options: how a stored image becomes a sample.
        metadata: the encoded metadata of the rows, float32 (N, D), if the network uses them.
        training: whether to augment. If False, nothing is random, and the epoch does not matter.
        extras: further values of the samples, tensors (N, ...) by their names in `Sample`.
        view: the fixed view that every sample shows; None: in training that of the epoch, if the pipeline has any.
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
        extras: Mapping[str, Tensor] = MappingProxyType({}),
        view: FixedView | None = None,
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
        self.extras = extras
        self.view = view
        self._epoch_views: tuple[int, npt.NDArray[np.int64]] | None = None
        self._image_ids = table["image_id"].astype(str).tolist() if pipeline.views is not None else []
        self.canvas = store.extent(self.rows) if training and pipeline.trains_on_device else (0, 0)
        """Height and width in pixels that contain every image, if batches are augmented on the device."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        epoch, position, *view = key
        row = int(self.rows[position])
        seed = (self.options.seed, epoch, position, *view)
        if self.training and self.pipeline.trains_on_device:
            image, plan = self.pipeline.plan(self.store.read(row), seed)
            canvas = torch.from_numpy(on_canvas(image, *self.canvas)).permute(2, 0, 1)
            sample = Sample(image=canvas, plan=plan, label=self.labels[position], index=torch.tensor(position))
            return self._completed(sample, position)
        fixed = self.view or self.view_at(epoch, position)
        is_flip = fixed is not None and fixed.is_flip
        if fixed is not None and not is_flip:
            seed = (fixed.number, zlib.crc32(self._image_ids[position].encode()))
        augments = self.training and not is_flip
        pixels = self._image(row, "pixels", seed, augments=augments)
        if fixed is not None and is_flip:  # as in evaluation, the clinical photograph stays as it is
            pixels = symmetry(pixels, fixed.number)
        sample = Sample(image=pixels, label=self.labels[position], index=torch.tensor(position))
        if self.options.clinical:
            sample["clinical"] = self._image(row, "clinical", (*seed, 1), augments=augments)
        return self._completed(sample, position)

    def view_at(self, epoch: int, position: int) -> FixedView | None:
        """Returns the fixed view that the image at `position` shows in `epoch`; None without such views."""
        views = self.pipeline.views
        if views is None or not self.training:
            return None
        if self._epoch_views is None or self._epoch_views[0] != epoch:
            drawn = views_of_epoch(self.options.seed, epoch, len(self), num_views(views))
            self._epoch_views = (epoch, drawn)
        return FixedView(views == FLIPS8, int(self._epoch_views[1][position]))

    def _completed(self, sample: Sample, position: int) -> Sample:
        if self.metadata is not None:
            sample["metadata"] = self.metadata[position]
        for name, values in self.extras.items():
            sample[name] = values[position]  # type: ignore[literal-required]
        return sample

    def _image(self, row: int, plane: str, seed: tuple[int, ...], *, augments: bool) -> Tensor:
        image = self.store.read(row, plane)
        masked = self.options.mask != "none" and plane == "pixels"
        mask = self.store.read(row, "masks") if masked else None

        def augment(image: UInt8Array, mask: UInt8Array | None) -> Augmented:
            if augments:
                return self.pipeline.train(image, mask, seed)
            return self.pipeline.evaluate(image, mask)

        return network_input(image, mask, self.options, augment)


def network_input(
    image: UInt8Array,
    mask: UInt8Array | None,
    options: SampleOptions,
    augment: Callable[[UInt8Array, UInt8Array | None], Augmented],
) -> Tensor:
    """Returns the network's input, uint8 (C, S, S), for an image at the store's size.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: its lesion mask, uint8 (H, W) of 0 or 255, if `options` uses masks.
        options: how the mask is used.
        augment: makes squares of an image and its mask.
    """
    if mask is not None and options.mask == "crop":
        image, mask = crop_to_lesion(image, mask, options.mask_margin)
    augmented, moved = augment(image, mask)
    if moved is not None:
        augmented = apply_mask(augmented, moved, options.mask)
    if not augmented.flags.writeable or not augmented.flags.c_contiguous:  # a view of the store
        augmented = augmented.copy()
    return torch.from_numpy(augmented).permute(2, 0, 1)


def collate_samples(samples: list[Sample]) -> Sample:
    """Collates samples to a batch, whose images are in channels-last memory format, as in the store."""
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
    """The preprocessing of a run's test images, for images that are not in a store."""

    pipeline: AugmentationPipeline
    options: SampleOptions
    short_side: int
    """Shorter side of a stored image in pixels; images are scaled to it before the pipeline."""
    reduced: bool = False
    """Whether photographs are reduced while they are decoded, as in training without a store."""
    squash: Squash | None = None
    """The sizes of the images and masks of the training, if those images are squashed copies. A mask of these sizes is
    squashed as in training."""

    @property
    def companions(self) -> tuple[str, ...]:
        """The columns of the other pictures of an image that the network needs: lesion mask, clinical photograph."""
        mask = ("mask_path",) if self.options.mask != "none" else ()
        return (*mask, *(("clinical_path",) if self.options.clinical else ()))

    def from_files(self, image_path: str, mask_path: str | None = None, clinical_path: str | None = None) -> Sample:
        """Returns the sample of an image and its other pictures, given by their locators.

        Raises:
            DataError: a file cannot be read, or a picture that the network needs is missing.
        """
        image = read_image(image_path, self.short_side, reduced=self.reduced)
        mask = None
        if self.options.mask != "none":
            if mask_path is None or pd.isna(mask_path):
                raise DataError("it has no lesion mask, which dataset.mask needs")
            mask = self._mask(image_path, mask_path, (image.shape[0], image.shape[1]))
        sample = Sample(image=self._input(image, mask))
        if self.options.clinical:
            if clinical_path is None or pd.isna(clinical_path):
                raise DataError("it has no clinical photograph, which dataset.view=both needs")
            clinical = read_image(clinical_path, self.short_side, reduced=self.reduced)
            sample["clinical"] = self._input(clinical, None)
        return sample

    def from_bytes(self, encoded: bytes, name: str) -> Sample:
        """Returns the sample of an encoded image, for networks that need no other picture.

        Args:
            encoded: the bytes of the image file.
            name: the name of the image in messages.

        Raises:
            DataError: the image cannot be decoded.
        """
        assert not self.companions, "the network needs other pictures of the image"
        return Sample(image=self._input(decode(encoded, self.short_side, name, reduced=self.reduced), None))

    def _mask(self, image_path: str, mask_path: str, shape: tuple[int, int]) -> UInt8Array:
        is_squashed = self.squash is not None and Squash.of_files(image_path, mask_path) == self.squash
        return check_mask(read_mask(mask_path, shape, any_proportions=is_squashed), mask_path)

    def _input(self, image: UInt8Array, mask: UInt8Array | None) -> Tensor:
        return network_input(image, mask, self.options, self.pipeline.evaluate)
