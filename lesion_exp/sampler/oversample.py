"""The same number of images of every class, repeated where a class has fewer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, draw, positions_by


class Oversample:
    """Takes `samples_per_class` images of every class, redrawn each epoch.

    A larger class gives that many different images; a smaller one repeats each of its images equally often, give or
    take one. Resampling happens here, inside the training loader, so no copy can reach validation or test.

    Args:
        samples_per_class: images of each class an epoch; None = the size of the largest class.

    Raises:
        ConfigError: fewer than one.
    """

    def __init__(self, samples_per_class: int | None = None) -> None:
        if samples_per_class is not None and samples_per_class < 1:
            raise ConfigError(f"expected sampler.samples_per_class of at least 1, got {samples_per_class}")
        self.samples_per_class = samples_per_class

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """samples_per_class positions of each class, shuffled together."""
        classes = positions_by(table["label"])
        count = self.samples_per_class or max(map(len, classes))
        return rng.permutation(np.concatenate([draw(positions, count, rng) for positions in classes]))
