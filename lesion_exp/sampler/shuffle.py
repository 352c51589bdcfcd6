"""A sampler with every image once per epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.sampler.sampler import IntArray


class Shuffle:
    """Gives every training image once per epoch, in random order."""

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns a random permutation of all positions."""
        return rng.permutation(len(table)).astype(np.int64)
