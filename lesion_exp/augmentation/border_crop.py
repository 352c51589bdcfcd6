"""A transform that crops the black border of a dermatoscope."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from lesion_exp.augmentation.library import GeometricTransform
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array

Box = tuple[int, int, int, int]


class BorderCrop(GeometricTransform):
    """Crops image and mask to the round field of view of a dermatoscope, if the image shows one.

    The grey image is blurred. Pixels brighter than `threshold` times Otsu's threshold form the field of view, of which
    the smallest enclosing circle is computed. If the mean outside the circle is below `contrast` times the mean inside,
    the image is cropped to the square around the circle, less `margin`. Otherwise it is unchanged.

    The method follows Gessert et al., "Skin lesion classification using ensembles of multi-resolution EfficientNets
    with meta data", MethodsX 2020 (first place of ISIC 2019).

    Args:
        threshold: share of Otsu's threshold above which a pixel belongs to the field of view.
        margin: width that is cropped on each side of the square around the circle, as a share of the radius. With 0.1,
            small black corners remain; with 0.35, none do (0.293 is the inscribed square, and the blur enlarges the
            circle).
        contrast: greatest ratio of the mean outside to the mean inside for which the image is cropped.
        p: probability; keep it 1 under `augmentation.preprocess`.
    """

    changes_size = True

    def __init__(self, threshold: float = 0.2, margin: float = 0.1, contrast: float = 0.3, p: float = 1.0) -> None:
        super().__init__(p=p)
        for name, value, limit in (("threshold", threshold, 1), ("contrast", contrast, 1), ("margin", margin, 0.5)):
            if not 0 <= value <= limit:
                raise ConfigError(f"expected BorderCrop.{name} from 0 to {limit}, got {value}; change it in the recipe")
        self.threshold = threshold
        self.margin = margin
        self.contrast = contrast

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Returns the box to keep: (top, bottom, left, right) in pixels."""
        return {"box": self.box(data["image"])}

    def apply(self, img: UInt8Array, box: Box, **params: Any) -> UInt8Array:
        """Crops the image to the box."""
        return img[box[0] : box[1], box[2] : box[3]]

    def apply_to_mask(self, mask: UInt8Array, box: Box, **params: Any) -> UInt8Array:
        """Crops the mask to the same box."""
        return mask[box[0] : box[1], box[2] : box[3]]

    def box(self, img: UInt8Array) -> Box:
        """Returns the box of `img`, uint8 (H, W, 3), to keep, as (top, bottom, left, right) in pixels."""
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
