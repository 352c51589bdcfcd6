"""Whole groups are held out first, the rest is split in one of several ways: for the leak meter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import pandas as pd

from lesion_exp.errors import ConfigError, DataError, did_you_mean
from lesion_exp.split.assign import deal_groups
from lesion_exp.split.by_image import ByImage
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.groups import assign_groups
from lesion_exp.split.resample_then_split import ResampleThenSplit

WAYS: Final = ("grouped", "by_image", "resample_then_split")


class _Splitter(Protocol):
    def split(self, table: pd.DataFrame) -> pd.DataFrame: ...
    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]: ...


class HeldOut:
    """Train, validation and test of what is left once a clean part has been held out.

    The clean part depends on `seed` and `held_out` alone: whichever way the rest is split, right or wrong, it holds the
    same images, and neither they nor a sibling or near-duplicate of them is in any part. Networks that were trained on
    different splits can so be tested on the same images that none of them knows.

    Args:
        seed: of all draws.
        held_out: share of the images in the clean part.
        way: how the rest is split, one of `WAYS`.
        ratios: share of the rest in `train`, `val` and `test`.
        samples_per_class: with `resample_then_split`, see there.
        near_duplicate_threshold: least correlation of two thumbnails that counts as the same picture.

    Raises:
        ConfigError: an unknown way, or shares out of range.
    """

    def __init__(
        self,
        seed: int,
        held_out: float,
        way: str,
        ratios: Mapping[str, float],
        samples_per_class: int | None,
        near_duplicate_threshold: float,
    ) -> None:
        if not 0 < held_out < 1:
            raise ConfigError(f"expected split.held_out between 0 and 1, got {held_out}; 0.15 is the default")
        self.seed = seed
        self.held_out = held_out
        self.near_duplicate_threshold = near_duplicate_threshold
        self.rest = _splitter(way, seed, ratios, samples_per_class, near_duplicate_threshold)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of `table` outside the clean part, with `group` and `split`; see the class named by `way`.

        Raises:
            DataError: a part would be empty.
        """
        return self.rest.split(table[~self._is_clean(table, self._groups(table))])

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """The share of each part of the images outside the clean part; see `shortfall.shares_dealt`."""
        return self.rest.shares_dealt(table)

    def clean_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the clean part, with `group`.

        Raises:
            DataError: there are none.
        """
        group = self._groups(table)
        clean = table.assign(group=group)[self._is_clean(table, group)]
        if clean.empty:
            raise DataError(
                f"expected images in the clean part, but split.held_out={self.held_out} of {group.nunique()} groups "
                f"holds none; use more images or a larger share"
            )
        return clean

    def _groups(self, table: pd.DataFrame) -> pd.Series:
        return assign_groups(table, self.near_duplicate_threshold)

    def _is_clean(self, table: pd.DataFrame, group: pd.Series) -> pd.Series:
        shares = {"rest": 1 - self.held_out, "clean": self.held_out}
        return deal_groups(table, group, shares, self.seed) == "clean"


def _splitter(
    way: str, seed: int, ratios: Mapping[str, float], samples_per_class: int | None, threshold: float
) -> _Splitter:
    if way == "grouped":
        return Grouped(seed, ratios, threshold)
    if way == "by_image":
        return ByImage(seed, ratios, threshold)
    if way == "resample_then_split":
        return ResampleThenSplit(seed, ratios, samples_per_class, threshold)
    raise ConfigError(f"expected split.way to be one of {', '.join(WAYS)}, got {way!r}{did_you_mean(way, WAYS)}")
