"""A split for the leak meter: whole groups are held out first, and the rest is split in one of several ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd

from lesion_exp.choices import WAYS_TO_SPLIT
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.split.assign import deal_groups
from lesion_exp.split.by_image import ByImage
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.resample_then_split import ResampleThenSplit


class _Splitter(Protocol):
    def split(self, table: pd.DataFrame) -> pd.DataFrame: ...
    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]: ...


class HeldOut:
    """Holds out a clean part by group, and splits the remaining images in one of several ways.

    The clean part depends on `seed` and `held_out` only. It contains the same images whichever way the rest is split,
    and no part of the split contains one of its groups. Networks that were trained on different splits can therefore be
    tested on the same unseen images.

    Args:
        seed: seed of both splits.
        held_out: share of the images in the clean part.
        way: how the rest is split, one of `choices.WAYS_TO_SPLIT`.
        ratios: shares of the rest in `train`, `val` and `test`.
        samples_per_class: argument of `ResampleThenSplit`, for `way=resample_then_split`.

    Raises:
        ConfigError: `way` is unknown, or a share is out of range.
    """

    def __init__(
        self,
        seed: int,
        held_out: float,
        way: str,
        ratios: Mapping[str, float],
        samples_per_class: int | None,
    ) -> None:
        if not 0 < held_out < 1:
            raise ConfigError(f"expected split.held_out between 0 and 1, got {held_out}; 0.15 is the default")
        self.seed = seed
        self.held_out = held_out
        self.rest = _splitter(way, seed, ratios, samples_per_class)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows of `table`, which has `group`, outside the clean part, with the column `split`.

        Raises:
            DataError: a part would be empty.
        """
        return self.rest.split(table[~self._is_clean(table)])

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """Returns the share of each part of the images outside the clean part; see `audit.shares_dealt`."""
        return self.rest.shares_dealt(table)

    def clean_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows of `table`, which has `group`, in the clean part.

        Raises:
            DataError: the clean part is empty.
        """
        clean = table[self._is_clean(table)]
        if clean.empty:
            raise DataError(
                f"expected images in the clean part, but with split.held_out={self.held_out} of "
                f"{table['group'].nunique()} groups it has none; use more images or a larger share"
            )
        return clean

    @property
    def leaks(self) -> bool:
        """Whether the rest is split in a way that leaks."""
        return bool(getattr(self.rest, "leaks", False))

    def _is_clean(self, table: pd.DataFrame) -> pd.Series:
        shares = {"rest": 1 - self.held_out, "clean": self.held_out}
        return deal_groups(table, table["group"], shares, self.seed) == "clean"


def _splitter(way: str, seed: int, ratios: Mapping[str, float], samples_per_class: int | None) -> _Splitter:
    check_choice("split.way", way, WAYS_TO_SPLIT)
    if way == "grouped":
        return Grouped(seed, ratios)
    if way == "by_image":
        return ByImage(seed, ratios)
    return ResampleThenSplit(seed, ratios, samples_per_class)
