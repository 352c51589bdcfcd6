"""A sampler with the same number of images of every class, which repeats images of small classes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.sampler.sampler import IntArray, check_samples_per_class, draw, positions_by


class Oversample:
    """Draws `samples_per_class` images of every class, again for every epoch.

    Images of a larger class occur at most once in an epoch; images of a smaller class occur equally often, or once more
    than others. Only the training loader resamples, so no copy can be in validation or test.

    Args:
        samples_per_class: images of each class per epoch; None: the size of the largest class.

    Raises:
        ConfigError: `samples_per_class` is less than 1.
    """

    def __init__(self, samples_per_class: int | None = None) -> None:
        check_samples_per_class(samples_per_class, "largest")
        self.samples_per_class = samples_per_class

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns `samples_per_class` positions of each class, in random order."""
        classes = positions_by(table["label"])
        count = self.samples_per_class or max(map(len, classes))
        return rng.permutation(np.concatenate([draw(positions, count, rng) for positions in classes]))
