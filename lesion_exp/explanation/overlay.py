"""A map of the evidence, drawn over its image."""

from __future__ import annotations

from typing import Any, Final

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

COLOURS: Final = "turbo"
_FROM, _TO = 0.15, 0.93
"""The ends of it are nearly black, and would be taken for dark places of the image."""
OPACITY: Final = 0.75
"""Of the colour where the evidence is largest; where there is none, the grey image is seen as it is."""
_FADING: Final = 0.8
"""Power of the evidence to which the opacity goes."""
_BRIGHTEST: Final = 99.5
"""Percentile of a map that is drawn as its largest value: a lone pixel must not darken all others."""


def overlay(image: npt.NDArray[np.uint8], evidence: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """`image`, uint8 (H, W, 3) RGB, in grey under the map `evidence`, float (h, w), 0 to 1, from blue to red.

    Grey, since skin and lesions have the very colours that would say how much evidence there is.
    The map is scaled to the image's size, and a little blurred where it is as fine as the image.
    """
    height, width = image.shape[:2]
    shown = cv2.resize(evidence.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    shown = cv2.GaussianBlur(shown, (0, 0), max(min(height, width) / 100, 0.5))
    brightest = np.percentile(shown, _BRIGHTEST)
    strength = np.clip(shown / brightest, 0, 1) if brightest > 0 else np.zeros_like(shown)
    colours = matplotlib.colormaps[COLOURS](_FROM + (_TO - _FROM) * strength)[:, :, :3] * 255
    opacity = OPACITY * strength[:, :, None] ** _FADING
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
    return np.asarray((1 - opacity) * grey + opacity * colours + 0.5, dtype=np.uint8)
