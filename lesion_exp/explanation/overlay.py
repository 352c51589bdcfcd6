"""A saliency map, drawn over its image."""

from __future__ import annotations

from typing import Any, Final

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

COLOURS: Final = "turbo"
_FROM, _TO = 0.15, 0.93
"""The range of the colour map that is used. Its ends are nearly black and look like dark regions of the image."""
OPACITY: Final = 0.75
"""The opacity of the colour at the highest saliency; without saliency the grey image is not covered."""
_FADING: Final = 0.8
"""The opacity is proportional to this power of the saliency."""
_BRIGHTEST: Final = 99.5
"""The percentile of a map that is drawn with the last colour, so that a single pixel does not darken all others."""


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
    colours = matplotlib.colormaps[COLOURS](_FROM + (_TO - _FROM) * strength)[:, :, :3] * 255
    opacity = OPACITY * strength[:, :, None] ** _FADING
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
    return np.asarray((1 - opacity) * grey + opacity * colours + 0.5, dtype=np.uint8)
