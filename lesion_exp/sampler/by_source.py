"""A sampler for combined data sets that draws images of small sources more often."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, draw, positions_by


class BySource:
    """Gives each source a share of the epoch that is proportional to size ** (1 - power).

    Within a source, every image occurs equally often, or once more than others.

    Args:
        power: 1: all sources equally often; 0: in proportion to their sizes.

    Raises:
        ConfigError: `power` is outside 0 to 1.
    """

    def __init__(self, power: float = 1.0) -> None:
        if not 0 <= power <= 1:
            raise ConfigError(f"expected sampler.power from 0 to 1, got {power}; 1 gives every source the same share")
        self.power = power

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns as many positions as there are training images, in random order."""
        sources = positions_by(table["source"])
        shares = np.array([len(positions) for positions in sources], dtype=np.float64) ** (1 - self.power)
        ends = np.round(np.cumsum(shares) / shares.sum() * len(table)).astype(int)
        counts = np.diff(ends, prepend=0)
        return rng.permutation(
            np.concatenate([draw(positions, int(n), rng) for positions, n in zip(sources, counts, strict=True)])
        )
