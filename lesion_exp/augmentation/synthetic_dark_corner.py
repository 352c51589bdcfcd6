"""A transform that draws the dark corners of a dermatoscope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lesion_exp.augmentation.library import ImageTransform
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array
from lesion_exp.synthetic_artefacts import draw_dark_corner


class SyntheticDarkCorner(ImageTransform):
    """Darkens the image outside a circle around the middle. The lesion mask is unchanged.

    Args:
        radius: smallest and greatest radius of the circle, as shares of the shorter side. The corners of a square lie
            at 0.71, those of a 4:3 image at 0.83; a greater radius has no effect.
        softness: width of the transition, as a share of the shorter side.
        darkness: share of the light that is lost outside the circle, 0 to 1.
        p: probability.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        radius: Sequence[float] = (0.5, 0.66),
        softness: float = 0.06,
        darkness: float = 0.96,
        p: float = 0.3,
    ) -> None:
        super().__init__(p=p)
        if len(radius) != 2 or not 0 < radius[0] <= radius[1]:
            raise ConfigError(
                f"expected SyntheticDarkCorner.radius as two rising numbers above 0, such as [0.5, 0.66], got "
                f"{list(radius)}"
            )
        if softness < 0:
            raise ConfigError(f"expected SyntheticDarkCorner.softness of at least 0, got {softness}; 0.06 is usual")
        if not 0 <= darkness <= 1:
            raise ConfigError(f"expected SyntheticDarkCorner.darkness from 0 to 1, got {darkness}; 0.96 is usual")
        self.radius = (float(radius[0]), float(radius[1]))
        self.softness = softness
        self.darkness = darkness

    def get_params(self) -> dict[str, Any]:
        """Draws the seed of the circle."""
        return {"circle_seed": int(self.random_generator.integers(2**63))}

    def apply(self, img: UInt8Array, circle_seed: int, **params: Any) -> UInt8Array:
        """Returns the image with dark corners."""
        rng = np.random.default_rng(circle_seed)
        return draw_dark_corner(img, rng, self.radius, self.softness, self.darkness)
