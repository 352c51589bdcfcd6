"""The split of many notebooks: image by image, so that photographs of one lesion lie on both sides."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesion_exp.split.assign import check_ratios, deal_groups, require_parts


class ByImage:
    """Stratified by class, blind to lesions and patients: it leaks, and is here to measure how much.

    Args:
        seed: of the draw.
        ratios: share of the images in `train`, `val` and `test`.

    Raises:
        ConfigError: ratios that do not add up to 1.
    """

    leaks = True

    def __init__(self, seed: int, ratios: Mapping[str, float]) -> None:
        self.seed = seed
        self.ratios = check_ratios(ratios)

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """`table` with `split`.

        Raises:
            DataError: a part would be empty.
        """
        return require_parts(table.assign(split=deal_groups(table, table["row_id"], self.ratios, self.seed)))

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """The share of each part of the images; see `shortfall.shares_dealt`."""
        return self.ratios
