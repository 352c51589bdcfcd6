"""Fits an image of any aspect ratio to a square: which part of it is used, and how it is resized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from lesion_exp.image_file import UInt8Array

Fit = Literal["squash", "crop", "pad"]

Interpolation = Literal["bilinear", "bicubic", "lanczos"]

AVERAGE_FROM: Final = 1.5
"""Factor of reduction from which on pixels are averaged."""

_PILLOWS: Final = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
"""Filters of pretrained weights. Pillow widens them when it reduces an image, so that no pixel is skipped."""

Colour = tuple[int, int, int]


def fill_colour(mean: Sequence[float]) -> Colour:
    """Returns the mean colour (RGB, 0 to 1) as uint8; it is nearly 0 after normalisation."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def frame_size(shape: tuple[int, ...], fit: Fit, share: float = 1.0) -> tuple[int, int]:
    """Returns the height and width in pixels of the frame that becomes the square. It is centred on the image.

    Args:
        shape: shape of the image, (H, W, ...).
        fit: `crop`: the largest square within the image; `pad`: the smallest square around it; `squash`: the image.
        share: share of each side of the frame that is kept, in (0, 1].
    """
    height, width = shape[:2]
    if fit != "squash":
        height = width = min(height, width) if fit == "crop" else max(height, width)
    return (height, width) if share == 1 else (max(round(height * share), 1), max(round(width * share), 1))


def cut(image: UInt8Array, top: int, left: int, size: tuple[int, int], fill: Colour | int) -> UInt8Array:
    """Returns the box of `size` (height, width) at (top, left) of `image`, (H, W) or (H, W, 3).

    The part of the box outside the image has the colour `fill`.
    """
    height, width = size
    bottom, right = top + height, left + width
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    margins = (max(-top, 0), max(bottom - image.shape[0], 0), max(-left, 0), max(right - image.shape[1], 0))
    if not any(margins):
        return inside
    return np.asarray(cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT, value=fill), dtype=np.uint8)


def resize(image: UInt8Array, side: int, interpolation: Interpolation = "bilinear") -> UInt8Array:
    """Resizes `image`, (H, W, 3), to (side, side, 3).

    `bilinear` averages areas if the image is reduced by `AVERAGE_FROM` or more, and is linear otherwise; `bicubic` and
    `lanczos` are Pillow's filters.
    """
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    if interpolation != "bilinear":
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(picture.resize((side, side), _PILLOWS[interpolation]), dtype=np.uint8)
    # averaging takes four times as long, and linear interpolation skips pixels only from about this factor on
    method = cv2.INTER_AREA if min(image.shape[:2]) >= AVERAGE_FROM * side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def resize_mask(mask: UInt8Array, side: int) -> UInt8Array:
    """Resizes `mask`, (H, W), to (side, side) by nearest neighbour, so that no new values occur."""
    if mask.shape == (side, side):
        return np.ascontiguousarray(mask)
    return np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def fit_to_square(
    image: UInt8Array,
    mask: UInt8Array | None,
    side: int,
    fit: Fit,
    fill: Colour,
    share: float = 1.0,
    interpolation: Interpolation = "bilinear",
) -> tuple[UInt8Array, UInt8Array | None]:
    """Fits an image and its mask to squares.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), or None.
        side: side of the squares in pixels.
        fit: see `frame_size`.
        fill: RGB colour of the border that `pad` adds.
        share: see `frame_size`.
        interpolation: see `resize`.
    """
    size = frame_size(image.shape, fit, share)
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    fitted = resize(cut(image, top, left, size, fill), side, interpolation)
    if mask is None:
        return fitted, None
    return fitted, resize_mask(cut(mask, top, left, size, 0), side)
