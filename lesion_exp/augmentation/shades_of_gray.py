"""Colour constancy: a transform that estimates the colour of the light and removes it."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from lesion_exp.augmentation.library import ImageTransform
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array


class ShadesOfGray(ImageTransform):
    """Divides each channel by the illuminant, estimated by the Shades of Gray method.

    The illuminant is e_c = (mean over pixels of I_c^power)^(1/power), scaled to length 1; the result is
    I_c / (e_c * sqrt 3). Power 1 is the grey-world assumption, and a large power approaches the white-patch method.
    Saturated pixels are left out of the mean, because their true colour is unknown. A neutral image is unchanged.

    Source: Finlayson and Trezzi, "Shades of gray and colour constancy", CIC 2004; on dermoscopy: Barata, Celebi and
    Marques, "Improving dermoscopy image classification using color constancy", IEEE JBHI 2015.

    Args:
        power: order of the mean (the p of the papers), 1 or more.
        saturation: grey level, 1 to 256; pixels with any channel at or above it are left out. 256 leaves none out.
        p: probability; keep it 1 under `augmentation.preprocess`.
    """

    def __init__(self, power: float = 6.0, saturation: int = 250, p: float = 1.0) -> None:
        super().__init__(p=p)
        if not 1 <= power <= 32:
            raise ConfigError(
                f"expected ShadesOfGray.power from 1 (grey world) to 32, got {power}; the usual value is 6"
            )
        if not 1 <= saturation <= 256:
            raise ConfigError(
                f"expected ShadesOfGray.saturation to be a grey level from 1 to 256, got {saturation}; 250 is usual"
            )
        self.power = power
        self.saturation = saturation

    def apply(self, img: UInt8Array, **params: Any) -> UInt8Array:
        """Returns the image under neutral light."""
        gains = math.sqrt(1 / 3) / self.illuminant(img)
        table = np.clip(np.arange(256)[:, None] * gains + 0.5, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(img, table[None]), dtype=np.uint8)

    def illuminant(self, img: UInt8Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Returns the estimated colour of the light, float64 (3,), of length 1; neutral if it cannot be estimated."""
        neutral = np.full(3, math.sqrt(1 / 3))
        usable = (cv2.max(cv2.max(img[..., 0], img[..., 1]), img[..., 2]) < self.saturation).astype(np.uint8)
        levels = (np.arange(256) / 255.0) ** self.power
        counts = [cv2.calcHist([img], [channel], usable, [256], [0, 256]).ravel() for channel in range(3)]
        sums = np.asarray([float(count @ levels) for count in counts])
        if not sums.all():  # no usable pixel, or a channel that is 0 everywhere
            return neutral
        estimated = (sums / usable.sum()) ** (1 / self.power)
        return np.asarray(estimated / np.linalg.norm(estimated), dtype=np.float64)
