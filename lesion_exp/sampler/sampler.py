"""The interface of samplers, the check of what a sampler returns, and functions that samplers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import ConfigError

IntArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Decides the order of an epoch from the training table and a random generator only."""

    def order(self, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
        """Returns the positions (0 to len(table) - 1) of one epoch over all processes, int64 (M,).

        M must be the same in every epoch, because the schedule of the learning rate is computed before the first.
        """


def order_of_epoch(sampler: Sampler, table: pd.DataFrame, rng: np.random.Generator) -> IntArray:
    """Returns the order of an epoch by `sampler`, an option of this package or a user's own class, and checks it.

    Raises:
        ConfigError: the class has no method `order`, or the method does not return positions in the table.
    """
    name = type(sampler).__name__
    if not callable(getattr(sampler, "order", None)):
        raise ConfigError(
            f"expected a class with a method order(table, rng) for the sampler, got {name}, which has none; "
            f"{name}.order returns the positions of an epoch's images in the table"
        )
    given = sampler.order(table, rng)
    order = np.asarray(given)
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer) or not len(order):
        got = f"{order.dtype} of shape {order.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        remedy = "np.flatnonzero(mask) gives those of a mask" if order.dtype == bool else "np.arange(len(table)) is one"
        raise ConfigError(
            f"expected {name}.order to return positions of images, whole numbers (M,) with at least one, got {got}; "
            f"{remedy}"
        )
    if order.min() < 0 or order.max() >= len(table):
        raise ConfigError(
            f"expected {name}.order to return positions from 0 to {len(table) - 1:,}, for a training table of "
            f"{len(table):,} images, got {order.min():,} to {order.max():,}; positions are places in the table, not "
            f"its index"
        )
    return order.astype(np.int64, copy=False)


def check_samples_per_class(count: int | None, otherwise: str) -> None:
    """Checks the key `samples_per_class`; without it, the size of the class that is `otherwise` (largest) is taken.

    Raises:
        ConfigError: it is less than 1.
    """
    if count is not None and count < 1:
        raise ConfigError(
            f"expected sampler.samples_per_class of at least 1, got {count}; null takes the size of the {otherwise} "
            f"class"
        )


def positions_by(values: Sequence[object] | pd.Series) -> list[IntArray]:
    """Returns the positions of each distinct value, for the values in ascending order."""
    codes, _ = pd.factorize(pd.Series(values).astype(str), sort=True)
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]


def draw(positions: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """Returns `count` of `positions`, each equally often or once more than others; which ones is random."""
    whole, rest = divmod(count, len(positions))
    return np.concatenate([np.tile(positions, whole), rng.permutation(positions)[:rest]])
