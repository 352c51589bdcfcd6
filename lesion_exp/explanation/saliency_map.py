"""A saliency map: how much of it lies inside the lesion, and its picture over the image."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_NEAR: Final = 1e-6
"""Relative difference below which values are equal: bilinear interpolation repeats the largest one, up to rounding."""
COLOURS: Final = "turbo"
_FROM, _TO = 0.15, 0.93
"""The range of the colour map that is used. Its ends are nearly black and look like dark regions of the image."""
OPACITY: Final = 0.75
"""The opacity of the colour at the highest saliency; without saliency the grey image is not covered."""
_FADING: Final = 0.8
"""The opacity is proportional to this power of the saliency."""
_BRIGHTEST: Final = 99.5
"""The percentile of a map that is drawn with the last colour, so that a single pixel does not darken all others."""


def pointing_hit(saliency: FloatMap, mask: Mask) -> float:
    """Returns whether the highest pixel of a saliency map (H, W) lies inside the mask: 1, 0, or the share of those that
    do if several pixels are the highest, as in a map with few cells.

    The result is NaN for a map that is 0 everywhere. Source: Zhang et al. 2018, arXiv:1608.00507, without the tolerance
    of 15 pixels.
    """
    largest = saliency.max()
    if not largest > 0:
        return float("nan")
    return float(mask[saliency >= largest * (1 - _NEAR)].mean())


def share_inside(saliency: FloatMap, mask: Mask) -> float:
    """Returns the share of the sum of a saliency map (H, W) that lies inside the mask, 0 to 1.

    The result is NaN for a map that is 0 everywhere.
    """
    total = float(saliency.sum(dtype=np.float64))
    return float(saliency[mask].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def centre_hit(mask: Mask) -> float:
    """Returns 1 if the image's centre lies inside the mask, else 0: the baseline of the pointing game.

    The centre of an image with an even side lies between pixels; the result is their mean.
    """
    height, width = mask.shape
    middle = mask[(height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return float(middle.mean())


def overlay(image: npt.NDArray[np.uint8], saliency: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Draws a saliency map in colours from blue to red over the image in grey, uint8 (H, W, 3) RGB.

    The image is grey because skin and lesions have the same colours as the map. The map is resized to the image, and
    slightly blurred.

    Args:
        image: uint8 (H, W, 3), RGB.
        saliency: float (h, w), 0 to 1.
    """
    height, width = image.shape[:2]
    shown = cv2.resize(saliency.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    shown = cv2.GaussianBlur(shown, (0, 0), max(min(height, width) / 100, 0.5))
    brightest = np.percentile(shown, _BRIGHTEST)
    strength = np.clip(shown / brightest, 0, 1) if brightest > 0 else np.zeros_like(shown)
    colours = _colour_map()(_FROM + (_TO - _FROM) * strength)[:, :, :3] * 255
    opacity = OPACITY * strength[:, :, None] ** _FADING
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
    return np.asarray((1 - opacity) * grey + opacity * colours + 0.5, dtype=np.uint8)


def _colour_map() -> Any:
    import matplotlib  # importing it takes long, and only pictures need it

    return matplotlib.colormaps[COLOURS]
