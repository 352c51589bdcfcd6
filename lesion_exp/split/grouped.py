"""The default split: by group, stratified by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pandas as pd

from lesion_exp.split.assign import check_ratios, deal_groups, require_parts


class Grouped:
    """Splits by group, stratified by class, so that no patient, lesion or image is in two parts.

    Near-duplicates belong to one group, so the audit of this split passes by construction.

    Args:
        seed: seed of the split. It does not follow the run's seed, so that runs are tested on the same images.
        ratios: shares of the images in `train`, `val` and `test`.

    Raises:
        ConfigError: `ratios` are not positive shares that add up to 1.
    """

    together: ClassVar = "group"
    """The column whose equal values stay together."""

    def __init__(self, seed: int, ratios: Mapping[str, float]) -> None:
        self.seed = seed
        self.ratios = check_ratios(ratios)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table`, which has the column `together`, with the column `split`.

        Raises:
            DataError: a part would be empty.
        """
        return require_parts(table.assign(split=deal_groups(table, table[self.together], self.ratios, self.seed)))

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """Returns the share of the images in each part; see `audit.shares_dealt`."""
        return self.ratios
