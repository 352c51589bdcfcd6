"""A sampler with the same number of images of every class, which leaves out images of large classes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.sampler.sampler import IntArray, check_samples_per_class, positions_by


class Undersample:
    """Draws at most `samples_per_class` different images of every class, again for every epoch.

    Args:
        samples_per_class: images of each class per epoch, or all images of a class with fewer; None: the size of the
            smallest class.

    Raises:
        ConfigError: `samples_per_class` is less than 1.
    """

    def __init__(self, samples_per_class: int | None = None) -> None:
        check_samples_per_class(samples_per_class, "smallest")
        self.samples_per_class = samples_per_class

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns positions without repetition, in random order."""
        classes = positions_by(table["label"])
        count = self.samples_per_class or min(map(len, classes))
        return rng.permutation(np.concatenate([rng.permutation(positions)[:count] for positions in classes]))
