"""How an image of any aspect comes to a square: the frame that evaluation shows."""

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
"""Factor of shrinking from which on pixels are averaged."""

_PILLOWS: Final = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
"""Filters of pretrained weights; Pillow widens them where an image shrinks, so that no pixel is passed over."""

Colour = tuple[int, int, int]


def fill_colour(mean: Sequence[float]) -> Colour:
    """The mean colour, shares of full range, as an RGB colour of uint8: nearly 0 once it is normalised."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def frame_size(shape: tuple[int, ...], fit: Fit, share: float = 1.0) -> tuple[int, int]:
    """Height and width in pixels of the frame, centred on an image of `shape` (H, W, ...), that becomes the square.

    `crop`: the largest square within the image; `pad`: the smallest square around it; `squash`: the image itself. Of
    each side of it the `share` is kept, in (0, 1].
    """
    height, width = shape[:2]
    if fit != "squash":
        height = width = min(height, width) if fit == "crop" else max(height, width)
    return (height, width) if share == 1 else (max(round(height * share), 1), max(round(width * share), 1))


def cut(image: UInt8Array, top: int, left: int, size: tuple[int, int], fill: Colour | int) -> UInt8Array:
    """The box of `size` (height, width) at (top, left) of `image`, (H, W) or (H, W, 3); `fill` outside the image."""
    height, width = size
    bottom, right = top + height, left + width
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    margins = (max(-top, 0), max(bottom - image.shape[0], 0), max(-left, 0), max(right - image.shape[1], 0))
    if not any(margins):
        return inside
    return np.asarray(cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT, value=fill), dtype=np.uint8)


def resize(image: UInt8Array, side: int, interpolation: Interpolation = "bilinear") -> UInt8Array:
    """`image`, (H, W, 3), as (side, side, 3).

    `bilinear` averages where the image shrinks by `AVERAGE_FROM` or more, and is linear else; `bicubic` and `lanczos`
    are Pillow's filters.
    """
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    if interpolation != "bilinear":
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(picture.resize((side, side), _PILLOWS[interpolation]), dtype=np.uint8)
    # averaging costs four times as much, and linear interpolation passes over pixels only from about this factor on
    method = cv2.INTER_AREA if min(image.shape[:2]) >= AVERAGE_FROM * side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def resize_mask(mask: UInt8Array, side: int) -> UInt8Array:
    """`mask`, (H, W), as (side, side), nearest neighbour: no new values."""
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
    """`image` (H, W, 3) and `mask` (H, W) as squares of `side` pixels; `fill` is the RGB colour of what `pad` adds.

    `share` is that of `frame_size`, `interpolation` that of `resize`.
    """
    size = frame_size(image.shape, fit, share)
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    fitted = resize(cut(image, top, left, size, fill), side, interpolation)
    if mask is None:
        return fitted, None
    return fitted, resize_mask(cut(mask, top, left, size, 0), side)
