"""A random crop whose size is relative to the part of the image that is used in evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lesion_exp.augmentation.fit import Fit, cut, fill_colour, frame_size, resize, resize_mask
from lesion_exp.augmentation.library import GeometricTransform
from lesion_exp.choices import FITS
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.image_file import UInt8Array


class RandomFitCrop(GeometricTransform):
    """Crops a random part of the image to a square, with no more distortion than in evaluation, apart from `ratio`.

    In `albumentations.RandomResizedCrop`, `scale` is relative to the whole image. On a 4:3 image there is no square
    with more than 0.75 of the area, so every larger draw gives the same centre crop. Here `scale` is relative to the
    frame that `fit` uses in evaluation, whatever the aspect ratio of the image. The crop always contains the middle of
    the image, where the lesion is.

    Args:
        size: side of the result in pixels.
        fit: crop | squash | pad, the same as the pipeline's.
        scale: smallest and greatest area of the crop as a share of the frame, 0 to 1.
        ratio: smallest and greatest ratio of the crop's width to its height; 1: no distortion.
        fill: colour outside the image for `fit=pad` (RGB, 0 to 1), the same as the pipeline's mean.
        crop_share: share of each side of the frame that evaluation uses, the same as the pipeline's.
        p: probability.
    """

    changes_size = True

    def __init__(
        self,
        size: int,
        fit: Fit = "crop",
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = (0.9, 1.1),
        fill: Sequence[float] = (0.485, 0.456, 0.406),
        crop_share: float = 1.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        check_choice("augmentation.fit", fit, FITS)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(
                f"expected RandomFitCrop.scale as two rising shares of an area within (0, 1], such as [0.5, 1.0], got "
                f"{list(scale)}"
            )
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(
                f"expected RandomFitCrop.ratio as two rising numbers above 0, such as [0.9, 1.1], got {list(ratio)}"
            )
        if len(fill) != 3 or not all(0 <= value <= 1 for value in fill):
            raise ConfigError(
                f"expected RandomFitCrop.fill as three values from 0 to 1 (RGB), such as [0.5, 0.5, 0.5], got "
                f"{list(fill)}"
            )
        if not 0 < crop_share <= 1:
            raise ConfigError(
                f"expected RandomFitCrop.crop_share above 0 and at most 1, got {crop_share}; 1 uses the whole frame"
            )
        self.size = size
        self.fit: Fit = fit
        self.scale = (float(scale[0]), float(scale[1]))
        self.ratio = (float(ratio[0]), float(ratio[1]))
        self.fill = tuple(float(value) for value in fill)
        self.crop_share = float(crop_share)
        self._colour = fill_colour(fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the box in pixels. `top` and `left` are negative if the frame is larger than the image."""
        height, width = params["shape"][:2]
        frame = frame_size((height, width), self.fit, self.crop_share)
        scale = self.py_random.uniform(*self.scale)
        stretch = math.exp(self.py_random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        # a crop may lie anywhere in the image, also outside the frame, but only with padding outside the image
        room = (max(height, frame[0]), max(width, frame[1]))
        box = (
            min(max(round(frame[0] * math.sqrt(scale / stretch)), 1), room[0]),
            min(max(round(frame[1] * math.sqrt(scale * stretch)), 1), room[1]),
        )
        top = self._start(box[0], room[0]) - (room[0] - height) // 2
        left = self._start(box[1], room[1]) - (room[1] - width) // 2
        return {"top": top, "left": left, "box": box}

    def _start(self, length: int, room: int) -> int:
        """Draws the start of an interval of `length` pixels within `room` pixels that contains the middle."""
        start: int = self.py_random.randint(max(room // 2 + 1 - length, 0), min(room // 2, room - length))
        return start

    def apply(self, img: UInt8Array, top: int, left: int, box: tuple[int, int], **params: Any) -> UInt8Array:
        """Crops the image to the box and resizes it to a square."""
        return resize(cut(img, top, left, box, self._colour), self.size)

    def apply_to_mask(self, mask: UInt8Array, top: int, left: int, box: tuple[int, int], **params: Any) -> UInt8Array:
        """Crops the mask to the same box and resizes it by nearest neighbour."""
        return resize_mask(cut(mask, top, left, box, 0), self.size)
