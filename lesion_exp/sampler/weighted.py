"""A sampler that draws images with replacement, and images of rare classes more often."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray


class Weighted:
    """Draws images with a probability that is proportional to 1 / (size of their class) ** power.

    Args:
        power: 1: all classes equally often; 0.5: in proportion to the square root of their sizes; 0: to their sizes.
        num_samples: draws per epoch; None: as many as there are training images.

    Raises:
        ConfigError: `power` is negative, or `num_samples` is less than 1.
    """

    def __init__(self, power: float = 1.0, num_samples: int | None = None) -> None:
        if power < 0:
            raise ConfigError(f"expected sampler.power of at least 0, got {power}; 1 balances the classes")
        if num_samples is not None and num_samples < 1:
            raise ConfigError(f"expected sampler.num_samples of at least 1, got {num_samples}; null takes them all")
        self.power = power
        self.num_samples = num_samples

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns `num_samples` positions, drawn with replacement."""
        sizes = table.groupby("label")["label"].transform("size").to_numpy(np.float64)
        weights = sizes**-self.power
        count = self.num_samples or len(table)
        return rng.choice(len(table), size=count, replace=True, p=weights / weights.sum()).astype(np.int64)
