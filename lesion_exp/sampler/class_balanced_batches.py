"""A sampler with the same number of images of every class in each batch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, positions_by


class ClassBalancedBatches:
    """Orders an epoch so that the numbers of images of the classes in a batch differ by at most one.

    The images of each class are used in random order, and again in another order when all were used. An epoch has as
    many full batches as the training part fills.

    Args:
        batch_size: images per batch, `loader.batch_size`.

    Raises:
        ConfigError: `batch_size` is less than 1.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"expected loader.batch_size of at least 1, got {batch_size}; 32 is usual")
        self.batch_size = batch_size

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns the positions of whole batches, one after the other, each in random order."""
        classes = positions_by(table["label"])
        num_batches = max(len(table) // self.batch_size, 1)
        # the class of each position of the epoch: the classes in turn, so that their numbers differ by at most one
        turns = np.arange(num_batches * self.batch_size) % len(classes)
        epoch = np.empty(len(turns), dtype=np.int64)
        for code, positions in enumerate(classes):
            places = np.flatnonzero(turns == code)
            rounds = -(-len(places) // len(positions))
            epoch[places] = np.concatenate([rng.permutation(positions) for _ in range(rounds)])[: len(places)]
        batches = epoch.reshape(num_batches, self.batch_size)
        return rng.permuted(batches, axis=1).ravel()
