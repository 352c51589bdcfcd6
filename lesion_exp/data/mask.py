"""What a lesion mask does to an image: `dataset.mask=none|overlay|crop|channel|background`."""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np

from lesion_exp.image_file import UInt8Array

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
