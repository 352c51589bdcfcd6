"""The split that a data set was published with."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split import PARTS
from lesion_exp.split.assign import deal_groups, require_parts


class Official:
    """Uses the published parts. If there is no validation part, a share of the training part becomes one.

    That split is by group and stratified by class.

    Args:
        seed: seed of that split.
        val_ratio: share of the training images in the validation part; ignored if the data set has one.

    Raises:
        ConfigError: `val_ratio` is out of range.
    """

    def __init__(self, seed: int, val_ratio: float) -> None:
        if not 0 < val_ratio < 1:
            raise ConfigError(f"expected split.val_ratio between 0 and 1, got {val_ratio}; 0.15 is the default")
        self.seed = seed
        self.val_ratio = val_ratio

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table`, which has `group`, with the column `split`.

        Raises:
            DataError: the data set has no official test part, some rows have no part, or a part is empty.
        """
        published = table["official_split"] if "official_split" in table else pd.Series(None, index=table.index)
        known = published.isin(PARTS)
        if not known.all() or "test" not in set(published):
            have = ", ".join(sorted(map(str, published[known].unique()))) or "none"
            raise DataError(
                f"expected a data set with published parts for split=official, but {int((~known).sum())} of "
                f"{len(table)} images have none and the parts are: {have}; a challenge has them with "
                f"dataset.parts=[train,test], a table in its column official_split, and class folders in folders named "
                f"train and test; or use split=grouped"
            )
        part = published.astype(object).copy()
        if "val" not in set(published):
            train = part == "train"
            slices = {"train": 1 - self.val_ratio, "val": self.val_ratio}
            part[train] = deal_groups(table[train], table.loc[train, "group"], slices, self.seed)
        return require_parts(table.assign(split=part), "use more images, another split.val_ratio, or split=grouped")

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """Returns the shares of train and validation in the published training part; empty if there is a validation
        part."""
        has_val = "official_split" in table and "val" in set(table["official_split"])
        return {} if has_val else {"train": 1 - self.val_ratio, "val": self.val_ratio}
