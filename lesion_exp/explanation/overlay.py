"""A map of the evidence, drawn over its image."""

from __future__ import annotations

from typing import Any, Final

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

COLOURS: Final = "turbo"
OPACITY: Final = 0.6
"""Of the colour where the evidence is largest; where there is none, the image is seen as it is."""
_BRIGHTEST: Final = 99.5
"""Percentile of a map that is drawn as its largest value: a lone pixel must not darken all others."""


def overlay(image: npt.NDArray[np.uint8], evidence: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """`image`, uint8 (H, W, 3) RGB, under the map `evidence`, float (h, w), 0 to 1, in colours from blue to red.

    The map is scaled to the image's size, and a little blurred where it is as fine as the image.
    """
    height, width = image.shape[:2]
    shown = cv2.resize(evidence.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    shown = cv2.GaussianBlur(shown, (0, 0), max(min(height, width) / 100, 0.5))
    brightest = np.percentile(shown, _BRIGHTEST)
    strength = np.clip(shown / brightest, 0, 1) if brightest > 0 else np.zeros_like(shown)
    colours = matplotlib.colormaps[COLOURS](strength)[:, :, :3] * 255
    opacity = OPACITY * np.sqrt(strength)[:, :, None]
    return np.asarray((1 - opacity) * image + opacity * colours + 0.5, dtype=np.uint8)
