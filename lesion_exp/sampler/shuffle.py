"""Every image once an epoch, in a new order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.sampler.sampler import IntArray


class Shuffle:
    """Each training image once an epoch, in random order."""

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """A permutation of all positions."""
        return rng.permutation(len(table)).astype(np.int64)
