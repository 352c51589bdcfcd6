"""The default split: whole groups, stratified by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pandas as pd

from lesion_exp.split.assign import check_ratios, deal_groups, require_parts


class Grouped:
    """Train, validation and test without a patient, lesion or picture in two of them.

    Near-duplicates are united before groups are dealt, so the audit of this split passes by construction.

    Args:
        seed: of the draw; does not follow the run's seed, so that runs are tested on the same images.
        ratios: share of the images in `train`, `val` and `test`.

    Raises:
        ConfigError: ratios that do not add up to 1.
    """

    together: ClassVar = "group"
    """The column of what must stay together."""

    def __init__(self, seed: int, ratios: Mapping[str, float]) -> None:
        self.seed = seed
        self.ratios = check_ratios(ratios)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """`table`, which has the column `together`, with `split`.

        Raises:
            DataError: a part would be empty.
        """
        return require_parts(table.assign(split=deal_groups(table, table[self.together], self.ratios, self.seed)))

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """The share of each part of the images; see `shortfall.shares_dealt`."""
        return self.ratios
