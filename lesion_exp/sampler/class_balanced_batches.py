"""Batches in which the classes are as equally many as they can be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, positions_by


class ClassBalancedBatches:
    """Orders an epoch so that each batch holds every class equally often, give or take one image.

    Each class is gone through in random order and begun again when it is used up. An epoch has as many batches as the
    training part fills.

    Args:
        batch_size: images a batch, `loader.batch_size`.

    Raises:
        ConfigError: a batch of fewer than one image.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"expected loader.batch_size of at least 1, got {batch_size}")
        self.batch_size = batch_size

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Whole batches one after the other, each shuffled."""
        classes = positions_by(table["label"])
        num_batches = max(len(table) // self.batch_size, 1)
        # which class each place of the epoch gets: the classes in turn, so that shares differ by one at most
        turns = np.arange(num_batches * self.batch_size) % len(classes)
        epoch = np.empty(len(turns), dtype=np.int64)
        for code, positions in enumerate(classes):
            places = np.flatnonzero(turns == code)
            rounds = -(-len(places) // len(positions))
            epoch[places] = np.concatenate([rng.permutation(positions) for _ in range(rounds)])[: len(places)]
        batches = epoch.reshape(num_batches, self.batch_size)
        return rng.permuted(batches, axis=1).ravel()
