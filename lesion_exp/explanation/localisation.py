"""How much of a saliency map lies inside the lesion: the pointing game and the share inside the mask."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_NEAR: Final = 1e-6
"""Relative difference below which values are equal: bilinear interpolation repeats the largest one, up to rounding."""


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
