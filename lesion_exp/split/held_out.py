"""Whole groups are held out first, the rest is split in one of several ways: for the leak meter."""

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
    """Train, validation and test of what is left once a clean part has been held out.

    The clean part depends on `seed` and `held_out` alone: whichever way the rest is split, right or wrong, it holds the
    same images, and neither they nor a sibling or near-duplicate of them is in any part. Networks that were trained on
    different splits can so be tested on the same images that none of them knows.

    Args:
        seed: of all draws.
        held_out: share of the images in the clean part.
        way: how the rest is split, one of `choices.WAYS_TO_SPLIT`.
        ratios: share of the rest in `train`, `val` and `test`.
        samples_per_class: with `resample_then_split`, see there.

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
    ) -> None:
        if not 0 < held_out < 1:
            raise ConfigError(f"expected split.held_out between 0 and 1, got {held_out}; 0.15 is the default")
        self.seed = seed
        self.held_out = held_out
        self.rest = _splitter(way, seed, ratios, samples_per_class)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of `table`, which has `group`, outside the clean part, with `split`; see the class named by `way`.

        Raises:
            DataError: a part would be empty.
        """
        return self.rest.split(table[~self._is_clean(table)])

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """The share of each part of the images outside the clean part; see `shortfall.shares_dealt`."""
        return self.rest.shares_dealt(table)

    def clean_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the clean part of `table`, which has `group`.

        Raises:
            DataError: there are none.
        """
        clean = table[self._is_clean(table)]
        if clean.empty:
            raise DataError(
                f"expected images in the clean part, but split.held_out={self.held_out} of "
                f"{table['group'].nunique()} groups holds none; use more images or a larger share"
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
