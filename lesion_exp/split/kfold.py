"""Grouped, stratified cross-validation."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.split.assign import deal_groups, require_parts


class KFold:
    """Splits for one fold of a cross-validation: `fold` is the test part, and a share of the rest the validation part.

    Both splits are by group and stratified by class.

    Args:
        seed: seed of the split. The folds are the same for every `fold`.
        num_folds: number of folds, 2 or more.
        fold: the fold that is tested, from 0.
        val_ratio: share of the other folds' images in the validation part.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(self, seed: int, num_folds: int, fold: int, val_ratio: float) -> None:
        if num_folds < 2:
            raise ConfigError(f"expected split.num_folds of at least 2, got {num_folds}; 5 is usual")
        if not 0 <= fold < num_folds:
            raise ConfigError(
                f"expected split.fold from 0 to {num_folds - 1}, got {fold}; set another fold or a larger "
                f"split.num_folds"
            )
        if not 0 < val_ratio < 1:
            raise ConfigError(f"expected split.val_ratio between 0 and 1, got {val_ratio}; 0.15 is the default")
        self.seed = seed
        self.num_folds = num_folds
        self.fold = fold
        self.val_ratio = val_ratio

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table`, which has `group`, with the columns `fold` (independent of the tested fold) and `split`.

        Raises:
            DataError: a part would be empty.
        """
        group = table["group"]
        shares = {str(number): 1 / self.num_folds for number in range(self.num_folds)}
        fold = deal_groups(table, group, shares, self.seed).astype(int)
        rest = fold != self.fold
        part = pd.Series("test", index=table.index, dtype=object)
        slices = {"train": 1 - self.val_ratio, "val": self.val_ratio}
        part[rest] = deal_groups(table[rest], group[rest], slices, self.seed + 1 + self.fold)
        return require_parts(
            table.assign(fold=fold, split=part), "use more images, fewer split.num_folds or another split.val_ratio"
        )

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """Returns the share of the images in each part; see `audit.shares_dealt`."""
        rest = 1 - 1 / self.num_folds
        return {"train": rest * (1 - self.val_ratio), "val": rest * self.val_ratio, "test": 1 / self.num_folds}
