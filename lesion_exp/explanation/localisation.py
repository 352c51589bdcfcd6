"""Whether the evidence lies inside the lesion: the pointing game and the share inside the mask."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_NEAR: Final = 1e-6
"""Values that differ by less are equal: bilinear interpolation repeats the largest one, up to rounding."""


def pointing_hit(evidence: FloatMap, mask: Mask) -> float:
    """The share of the map's highest pixels, of (H, W), that lies inside the mask; NaN for a map without evidence.

    1 or 0 where one pixel is highest. Where several are equal (a map of few cells), it is the chance that one of them,
    drawn at random, lies inside. Source: Zhang et al. 2018, arXiv:1608.00507, without their tolerance of 15 pixels.
    """
    largest = evidence.max()
    if not largest > 0:
        return float("nan")
    return float(mask[evidence >= largest * (1 - _NEAR)].mean())


def share_inside(evidence: FloatMap, mask: Mask) -> float:
    """The part of the map's sum, of (H, W), that lies inside the mask, 0 to 1; NaN for a map without evidence."""
    total = float(evidence.sum(dtype=np.float64))
    return float(evidence[mask].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def centre_hit(mask: Mask) -> float:
    """1 if the image's centre lies inside the mask, else 0: what pointing there without looking would score."""
    height, width = mask.shape
    middle = mask[(height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return float(middle.mean())
