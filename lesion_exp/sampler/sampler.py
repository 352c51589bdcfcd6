"""What every sampler promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

IntArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Decides the order of an epoch from the training table and a generator, and from nothing else."""

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Positions (0 to len(table) - 1) of one whole epoch, before it is dealt to ranks, int64 (M,)."""


def positions_by(values: Sequence[object] | pd.Series) -> list[IntArray]:
    """The positions of each distinct value, values in ascending order."""
    codes, _ = pd.factorize(pd.Series(values).astype(str), sort=True)
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]


def draw(positions: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """`count` of `positions`: each at most once while they last, then each as often as the others or once more."""
    whole, rest = divmod(count, len(positions))
    return np.concatenate([np.tile(positions, whole), rng.permutation(positions)[:rest]])
