"""The black surround of a dermatoscope cut off."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from lesion_exp.augmentation.library import GeometricTransform
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array

Box = tuple[int, int, int, int]


class BorderCrop(GeometricTransform):
    """Crops image and mask to the round field of view of a dermatoscope, where the image shows one.

    The grey image is blurred; what is brighter than `threshold` times Otsu's threshold is the field of view, and its
    smallest enclosing circle is looked at. If the mean outside the circle is below `contrast` times the mean inside,
    the image is cut to the square around the circle, less `margin`; else it stays as it is.

    In the manner of Gessert et al., "Skin lesion classification using ensembles of multi-resolution EfficientNets with
    meta data", MethodsX 2020 (first place of ISIC 2019).

    Args:
        threshold: share of Otsu's threshold above which a pixel belongs to the field of view.
        margin: what is cut off inside the circle's square on each side, as a share of the radius. At 0.1 slivers of
            black stay in the corners; at 0.35 none do (0.293 is the inscribed square, and the blur widens the circle).
        contrast: greatest mean outside / mean inside with which the image is cropped.
        p: probability; keep it 1 under `augmentation.preprocess`.
    """

    changes_size = True

    def __init__(self, threshold: float = 0.2, margin: float = 0.1, contrast: float = 0.3, p: float = 1.0) -> None:
        super().__init__(p=p)
        for name, value, limit in (("threshold", threshold, 1), ("contrast", contrast, 1), ("margin", margin, 0.5)):
            if not 0 <= value <= limit:
                raise ConfigError(f"expected BorderCrop.{name} from 0 to {limit}, got {value}")
        self.threshold = threshold
        self.margin = margin
        self.contrast = contrast

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The box to keep: (top, bottom, left, right) in pixels."""
        return {"box": self.box(data["image"])}

    def apply(self, img: UInt8Array, box: Box, **params: Any) -> UInt8Array:
        """The box of the image."""
        return img[box[0] : box[1], box[2] : box[3]]

    def apply_to_mask(self, mask: UInt8Array, box: Box, **params: Any) -> UInt8Array:
        """The same box of the mask."""
        return mask[box[0] : box[1], box[2] : box[3]]

    def box(self, img: UInt8Array) -> Box:
        """What to keep of `img`, uint8 (H, W, 3), as (top, bottom, left, right) in pixels."""
        height, width = img.shape[:2]
        grey = cv2.cvtColor(img, cv2.COLOR_RGB2GRAY)
        grey = cv2.GaussianBlur(grey, (0, 0), max(min(height, width) / 100, 0.5))
        otsu, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        seen = (grey > self.threshold * otsu).astype(np.uint8)
        outlines, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not outlines:
            return 0, height, 0, width
        (x, y), radius = cv2.minEnclosingCircle(max(outlines, key=cv2.contourArea))
        circle = cv2.circle(np.zeros_like(grey), (round(x), round(y)), round(radius), 255, cv2.FILLED)
        if circle.all() or not circle.any():
            return 0, height, 0, width
        inside, outside = cv2.mean(grey, circle)[0], cv2.mean(grey, cv2.bitwise_not(circle))[0]
        if outside >= self.contrast * inside:
            return 0, height, 0, width
        half = (1 - self.margin) * radius
        top, left = max(round(y - half), 0), max(round(x - half), 0)
        bottom, right = min(round(y + half) + 1, height), min(round(x + half) + 1, width)
        return top, bottom, left, right
