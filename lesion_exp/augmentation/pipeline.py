"""From a stored image to the square that the network sees, in training and in evaluation.

A pipeline without transforms, as networks that predict mostly have, imports no library of transforms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lesion_exp.augmentation.fit import Fit, Interpolation, fill_colour, fit_to_square
from lesion_exp.augmentation.fixed_views import check_views, num_views
from lesion_exp.augmentation.mix import Mix
from lesion_exp.augmentation.on_device import Plan
from lesion_exp.choices import FITS, INTERPOLATIONS
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.image_file import UInt8Array

if TYPE_CHECKING:  # imports albumentations
    from lesion_exp.augmentation.device_steps import DeviceSteps
    from lesion_exp.augmentation.fused import Step
    from lesion_exp.augmentation.library import Transform
    from lesion_exp.augmentation.steps import Steps

Augmented = tuple[UInt8Array, UInt8Array | None]

_TRIAL_SHAPE = (450, 600)


class AugmentationPipeline:
    """Makes squares of `image_size` pixels out of images of any size.

    In training an image passes through `preprocess`, then through `transforms` in their order; the result is a function
    of the image and a seed alone. In evaluation it passes through `preprocess`, then `fit` makes it a square. If no
    transform changes the size, training also begins with the square of `fit`. The squares are uint8. They are
    normalised later with `mean` and `std`, a batch at a time.

    Args:
        image_size: side of the square in pixels.
        fit: how an image of any aspect ratio becomes a square. `crop` takes the largest centred square: shapes are
            kept and the sides are lost (dermoscopes centre the lesion). `pad` adds a border in the mean colour: the
            whole image is seen, but smaller. `squash` shows the whole image and distorts its shapes.
        preprocess: the transforms of training and evaluation, by name; None switches one off.
        transforms: the transforms of training alone, by name; None switches one off.
        mix: how training batches are mixed; None does not mix them.
        mean: the mean of each channel (RGB), 0 to 1.
        std: the standard deviation of each channel (RGB), above 0, as a share of the full range.
        interpolation: how evaluation resizes the frame of `fit`: bilinear, bicubic or lanczos. None, as in jobs of
            older versions, is bilinear. The warps of training always interpolate linearly.
        crop_share: the share of each side of the frame of `fit` that is shown, in (0, 1]; None is the whole frame.
        join: whether consecutive crops, symmetries and affine transforms are fused into one warp, and consecutive
            changes of colour into one lookup table. The random draws are the same, and pixels are interpolated once
            instead of several times.
        device: where training images are augmented: `cpu`, one image at a time in the workers of the loader, or `gpu`,
            a whole batch at a time on the device that trains.
        views: the fixed set of views of a training image, of which each epoch shows one. None draws anew in each
            epoch, `flips8` is the 8 flips and quarter turns in the place of `transforms`, and a number is as many draws
            of `transforms`, which depend on the image alone.

    Raises:
        ConfigError: a value is out of its range, a transform gets an argument that it does not have, a transform of
            `preprocess` is random, a transform fails on an image or does not return uint8, or `views` does not agree
            with the other arguments.
    """

    def __init__(
        self,
        image_size: int,
        fit: Fit,
        preprocess: Mapping[str, Transform | None] | None,
        transforms: Mapping[str, Transform | None] | None,
        mix: Mix | None,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: Interpolation | None = None,
        crop_share: float | None = None,
        join: bool = True,
        device: str = "cpu",
        views: str | int | None = None,
    ) -> None:
        if image_size < 8:
            raise ConfigError(f"expected image_size of at least 8 pixels, got {image_size}; 224 is the default")
        check_choice("augmentation.fit", fit, FITS)
        interpolation, crop_share = interpolation or "bilinear", 1.0 if crop_share is None else crop_share
        check_choice("augmentation.interpolation", interpolation, INTERPOLATIONS)
        if not 0 < crop_share <= 1:
            raise ConfigError(
                f"expected augmentation.crop_share above 0, up to 1, got {crop_share}; 1 shows the whole frame"
            )
        if len(mean) != 3 or not all(0 <= value <= 1 for value in mean):
            raise ConfigError(
                f"expected augmentation.mean as three values from 0 to 1 (RGB), got {list(mean)}; for example "
                f"augmentation.mean=[0.485,0.456,0.406]"
            )
        if len(std) != 3 or not all(value > 0 for value in std):
            raise ConfigError(
                f"expected augmentation.std as three values above 0 (RGB), got {list(std)}; for example "
                f"augmentation.std=[0.229,0.224,0.225]"
            )
        self.image_size = image_size
        self.fit: Fit = fit
        self.mix = mix
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.interpolation: Interpolation = interpolation
        self.crop_share = float(crop_share)
        self._fill = fill_colour(self.mean)
        self._preprocess: Steps = []
        self._transforms: Steps = []
        self._training: Steps = []
        self._fits_first = True
        self._on_device: DeviceSteps | None = None
        if any(transform is not None for given in (preprocess, transforms) for transform in (given or {}).values()):
            self._take_steps(preprocess or {}, transforms or {}, join=join)
        check_views(views, self._transforms, device)
        self.views = views
        if device == "gpu":
            from lesion_exp.augmentation.device_steps import DeviceSteps

            self._on_device = DeviceSteps(self._training, image_size, fit, self.crop_share)

    def _take_steps(
        self, preprocess: Mapping[str, Transform | None], transforms: Mapping[str, Transform | None], *, join: bool
    ) -> None:
        from lesion_exp.augmentation.fused import join as join_steps
        from lesion_exp.augmentation.library import changes_size
        from lesion_exp.augmentation.steps import check_never_random, named_steps

        self._preprocess = named_steps(preprocess, "augmentation.preprocess")
        self._transforms = named_steps(transforms, "augmentation.transforms")
        check_never_random(self._preprocess)
        self._fits_first = not any(changes_size(transform) for _, transform in self._transforms)
        self._training = (
            join_steps(self._transforms, self.image_size, self._fill, starts_square=self._fits_first)
            if join
            else self._transforms
        )
        self._try_every_step()

    @property
    def trains_on_device(self) -> bool:
        """Whether training images are augmented a batch at a time on the device, by the draws of `plan`."""
        return self._on_device is not None

    @property
    def is_fixed(self) -> bool:
        """Whether training sees each image as evaluation does, in every epoch."""
        return self.views is None and not self._transforms and self._leaves_batches

    @property
    def has_fixed_views(self) -> bool:
        """Whether training sees each image in views that are the same in every epoch and in every run."""
        return self.is_fixed or (self.views is not None and self._leaves_batches)

    @property
    def _leaves_batches(self) -> bool:
        """Whether nothing is done to training batches, after their images were made."""
        return not self.trains_on_device and (self.mix is None or not self.mix.is_active)

    def plan(self, image: UInt8Array, seed: Sequence[int]) -> tuple[UInt8Array, Plan]:
        """Returns the preprocessed image and its random draw, with which the device that trains augments it.

        Args:
            image: uint8 (H, W, 3), RGB.
            seed: see `train`.
        """
        assert self._on_device is not None, "augmentation.device is cpu"
        image, _ = self.preprocessed(image, None)
        return image, self._on_device.plan(image.shape, seed)

    def train(self, image: UInt8Array, mask: UInt8Array | None, seed: Sequence[int]) -> Augmented:
        """Returns the augmented image and mask, uint8 (S, S, 3) and (S, S), as a function of the arguments alone.

        Args:
            image: uint8 (H, W, 3), RGB.
            mask: the mask of the lesion, uint8 (H, W), 0 or 255; None if it is not needed.
            seed: non-negative integers, such as (seed, epoch, position).

        Raises:
            ConfigError: a transform fails on this image, or does not return uint8.
        """
        image, mask = self.preprocessed(image, mask)
        if self._fits_first:
            image, mask = self._fitted(image, mask)
        image, mask = _apply(self._training, image, mask, seed)
        return (image, mask) if image.shape[:2] == (self.image_size, self.image_size) else self._fitted(image, mask)

    def evaluate(self, image: UInt8Array, mask: UInt8Array | None) -> Augmented:
        """Returns `image` and `mask` (as for `train`) as squares, uint8 (S, S, 3) and (S, S); nothing is random."""
        return self._fitted(*self.preprocessed(image, mask))

    def preprocessed(self, image: UInt8Array, mask: UInt8Array | None) -> Augmented:
        """Returns `image` and `mask` after `preprocess` alone, which may change their sizes."""
        if not self._preprocess:
            return image, mask
        return _apply(self._preprocess, image, mask, (0,))  # the same draws for every image

    def describe(self) -> list[str]:
        """Returns the steps of training in their order, a text for each."""
        fit = f"fit: {self.fit} to {self.image_size} x {self.image_size}"
        fit += f", {self.crop_share:.3g} of its sides" if self.crop_share < 1 else ""
        fit += f", {self.interpolation}" if self.interpolation != "bilinear" else ""
        before = [f"{_described(step)} (also in evaluation)" for step in self._preprocess]
        during = [_described(step) for step in self._transforms]
        if self.views is not None:
            during.append(f"one of {num_views(self.views)} views that are fixed for each image")
        after = [f"mix: {self.mix}"] if self.mix is not None and self.mix.is_active else []
        return (
            [*before, fit, *during, *after] if self._fits_first else [*before, *during, f"{fit} (evaluation)", *after]
        )

    def _fitted(self, image: UInt8Array, mask: UInt8Array | None) -> Augmented:
        return fit_to_square(image, mask, self.image_size, self.fit, self._fill, self.crop_share, self.interpolation)

    def _try_every_step(self) -> None:
        """Applies every transform once to an image, so that a transform that fails is found before training."""
        image: UInt8Array = np.random.default_rng(0).integers(0, 256, (*_TRIAL_SHAPE, 3), dtype=np.uint8)
        mask: UInt8Array = np.zeros(_TRIAL_SHAPE, dtype=np.uint8)
        image, mask_or_none = _apply(self._preprocess, image, mask, (0,), force=True)
        if self._fits_first:
            image, mask_or_none = self._fitted(image, mask_or_none)
        _apply(self._transforms, image, mask_or_none, (0,), force=True)


def _apply(
    steps: Steps, image: UInt8Array, mask: UInt8Array | None, seed: Sequence[int], *, force: bool = False
) -> Augmented:
    if not steps:
        return image, mask
    from lesion_exp.augmentation.steps import apply_steps

    return apply_steps(steps, image, mask, seed, force=force)


def _described(step: Step) -> str:
    from lesion_exp.augmentation.library import describe

    path, transform = step
    return f"{path.rpartition('.')[2]}: {describe(transform)}"
