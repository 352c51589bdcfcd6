"""A lesion painted out of its image, as if the skin had none."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.image_file import UInt8Array

MARGIN: Final = 0.05
"""By how much the painted area is larger than the mask, as a share of the shorter side: masks cut the rim off."""
FEATHER: Final = 0.01
"""Width of the passage to the untouched skin, as a share of the shorter side."""

Float = npt.NDArray[np.float32]


def paint_out(image: UInt8Array, mask: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """`image`, uint8 (H, W, 3), with what `mask`, uint8 (H, W) of 0 or 255, marks replaced by the colours around it.

    The colours run smoothly into the area (pushed down a pyramid of means and pulled up again: Gortler et al. 1996,
    doi:10.1145/237170.237200) and get the grain of the skin outside, so that no silhouette is left to be read. Where
    nothing but lesion is in view, the whole image takes the colour of its brightest tenth.
    """
    side = min(image.shape[:2])
    reach = max(1, round(MARGIN * side))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    lesion = np.asarray(cv2.dilate(mask, disc), dtype=np.uint8) > 0
    if lesion.all():
        lesion = mask > 0
    pixels = image.astype(np.float32)
    if lesion.all():
        skin = np.full_like(pixels, np.percentile(pixels.reshape(-1, 3), 90, axis=0))
    else:
        skin = _filled(pixels, (~lesion).astype(np.float32)) + _grain(pixels, ~lesion, rng)
    alpha = np.asarray(cv2.GaussianBlur(lesion.astype(np.float32), (0, 0), max(FEATHER * side, 0.5)))
    alpha = np.maximum(alpha, lesion)[:, :, None]
    return np.asarray(np.clip(pixels * (1 - alpha) + skin * alpha + 0.5, 0, 255), dtype=np.uint8)


def _filled(pixels: Float, known: Float) -> Float:
    """`pixels` (H, W, 3) where `known` (H, W) is 1, elsewhere smooth colours between them."""
    if known.min() > 0:
        return pixels
    half = (max(1, (known.shape[1] + 1) // 2), max(1, (known.shape[0] + 1) // 2))
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
    colour = np.asarray(cv2.resize(pixels * known[:, :, None], half, interpolation=cv2.INTER_AREA), dtype=np.float32)
    means = (colour / np.maximum(weight, 1e-6)[:, :, None]).astype(np.float32)
    coarse = _filled(means, (weight > 0).astype(np.float32))
    smooth = np.asarray(cv2.resize(coarse, known.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return np.where(known[:, :, None] > 0, pixels, smooth)


def _grain(pixels: Float, skin: npt.NDArray[np.bool_], rng: np.random.Generator) -> Float:
    """Noise (H, W, 1) as strong as the finest detail of the skin."""
    grey = pixels.mean(axis=2)
    detail = grey - np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0))
    strength = float(np.median(np.abs(detail[skin]))) / 0.6745  # of a normal distribution, blind to hairs
    return np.asarray(rng.normal(0, strength, (*grey.shape, 1)), dtype=np.float32)
