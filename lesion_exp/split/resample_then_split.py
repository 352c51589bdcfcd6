"""A common mistake that inflates metrics: every class is oversampled first, and the copies are split afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError
from lesion_exp.split.assign import check_ratios, deal_groups, require_parts


class ResampleThenSplit:
    """Draws rows of every class with replacement and then splits the rows, so that copies are in several parts.

    It exists to measure how much the leakage raises the metrics; `sampler=oversample` oversamples without leaking.

    Args:
        seed: seed of the resampling and of the split.
        ratios: shares of the rows in `train`, `val` and `test`.
        samples_per_class: rows of each class after resampling; None: the size of the largest class.

    Raises:
        ConfigError: `ratios` are not positive shares that add up to 1, or `samples_per_class` is less than 1.
    """

    leaks = True

    def __init__(self, seed: int, ratios: Mapping[str, float], samples_per_class: int | None) -> None:
        if samples_per_class is not None and samples_per_class < 1:
            raise ConfigError(
                f"expected split.samples_per_class of at least 1, got {samples_per_class}; null takes the size of the "
                f"largest class"
            )
        self.seed = seed
        self.ratios = check_ratios(ratios)
        self.samples_per_class = samples_per_class

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns resampled rows of `table`, with distinct `row_id` for copies, and with the column `split`.

        Raises:
            DataError: a part would be empty.
        """
        grouped = table.sort_values("image_id")
        count = self.samples_per_class or int(table["label"].value_counts().max())
        rng = np.random.default_rng([self.seed, 0x0E])
        drawn = pd.concat(
            [rows.iloc[rng.integers(0, len(rows), count)] for _, rows in grouped.groupby("label", sort=True)],
            ignore_index=True,
        )
        copy = drawn.groupby("image_id").cumcount()
        drawn["row_id"] = drawn["image_id"] + "#" + copy.astype(str)
        return require_parts(drawn.assign(split=deal_groups(drawn, drawn["row_id"], self.ratios, self.seed)))

    def shares_dealt(self, table: pd.DataFrame) -> Mapping[str, float]:
        """Returns the share of the rows in each part; see `audit.shares_dealt`."""
        return self.ratios
