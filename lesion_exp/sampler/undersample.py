"""Every class cut down to the same number of images, redrawn each epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, positions_by


class Undersample:
    """Takes at most `samples_per_class` different images of every class, other ones each epoch.

    Args:
        samples_per_class: images of each class an epoch; None = the size of the smallest class. A class that has fewer
            gives all it has.

    Raises:
        ConfigError: fewer than one.
    """

    def __init__(self, samples_per_class: int | None = None) -> None:
        if samples_per_class is not None and samples_per_class < 1:
            raise ConfigError(f"expected sampler.samples_per_class of at least 1, got {samples_per_class}")
        self.samples_per_class = samples_per_class

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Positions without repetition, shuffled together."""
        classes = positions_by(table["label"])
        count = self.samples_per_class or min(map(len, classes))
        return rng.permutation(np.concatenate([rng.permutation(positions)[:count] for positions in classes]))
