"""A sampler for combined data sets that draws images of small sources more often."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, draw, positions_by
from lesion_exp.taxonomy import PSEUDO_RUN, PSEUDO_SOURCE


class BySource:
    """Gives each source a share of the epoch that is proportional to size ** (1 - power).

    Within a source, every image occurs equally often, or once more than others. Images that only a file of
    pseudo-labels names are no source: each of them occurs once.

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
        is_new = is_of_no_source(table)
        own = np.flatnonzero(~is_new)
        sources = [own[positions] for positions in positions_by(table["source"][~is_new])]
        shares = np.array([len(positions) for positions in sources], dtype=np.float64) ** (1 - self.power)
        ends = np.round(np.cumsum(shares) / shares.sum() * len(own)).astype(int)
        counts = np.diff(ends, prepend=0)
        drawn = [draw(positions, int(n), rng) for positions, n in zip(sources, counts, strict=True)]
        return rng.permutation(np.concatenate([*drawn, np.flatnonzero(is_new)]))


def is_of_no_source(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Returns which rows of a training table are images that only a file of pseudo-labels names, bool (N,)."""
    if PSEUDO_RUN not in table:
        return np.zeros(len(table), dtype=bool)
    return ((table["source"] == PSEUDO_SOURCE) & table[PSEUDO_RUN].notna()).to_numpy(dtype=bool)
