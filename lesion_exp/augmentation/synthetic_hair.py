"""A transform that draws hair over the skin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lesion_exp.augmentation.library import ImageTransform
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array
from lesion_exp.synthetic_artefacts import draw_hair


class SyntheticHair(ImageTransform):
    """Draws curved hairs of one colour and roughly one direction. The lesion mask is unchanged.

    Args:
        count: smallest and greatest number of hairs.
        width: smallest and greatest width at the root, as shares of the shorter side.
        length: smallest and greatest length, as shares of the shorter side.
        p: probability.

    Raises:
        ConfigError: a range is not two rising numbers of at least 0.
    """

    def __init__(
        self,
        count: Sequence[int] = (4, 20),
        width: Sequence[float] = (0.004, 0.011),
        length: Sequence[float] = (0.35, 1.3),
        p: float = 0.3,
    ) -> None:
        super().__init__(p=p)
        for name, limits in (("count", count), ("width", width), ("length", length)):
            if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
                raise ConfigError(
                    f"expected SyntheticHair.{name} to be two rising numbers of at least 0, got {list(limits)}; "
                    f"correct it in the recipe"
                )
        self.count = (int(count[0]), int(count[1]))
        self.width = (float(width[0]), float(width[1]))
        self.length = (float(length[0]), float(length[1]))

    def get_params(self) -> dict[str, Any]:
        """Draws the number of hairs and the seed of their shapes."""
        return {
            "num_hairs": self.py_random.randint(*self.count),
            "hair_seed": int(self.random_generator.integers(2**63)),
        }

    def apply(self, img: UInt8Array, num_hairs: int, hair_seed: int, **params: Any) -> UInt8Array:
        """Returns the image with hair."""
        return draw_hair(img, np.random.default_rng(hair_seed), num_hairs, self.width, self.length)
