"""Takes a share of the training part, for learning curves: by group and class, without a change of the other parts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError


def with_training_share(table: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Returns `table` with about `share` of the groups of its training part, and all rows of the other parts.

    Groups are drawn by class, that of the first image of a group, at least one of each class. The groups of a smaller
    share are among those of a larger one with the same seed.

    Args:
        table: a split table, with `group`, `label` and `split`.
        share: share of the groups that is kept, above 0 and up to 1.
        seed: seed of the draw.

    Raises:
        ConfigError: the share is out of range.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(f"expected split.train_share above 0, up to 1, got {share!r}; 0.1 is a tenth of the lesions")
    if share == 1:
        return table
    is_trained = table["split"] == "train"
    class_of_group = table[is_trained].sort_values("row_id").groupby("group", sort=True)["label"].first()
    rng = np.random.default_rng([seed, 0x5A])
    kept: set[object] = set()
    for _, groups in class_of_group.groupby(class_of_group, sort=True):
        drawn = rng.permutation(np.asarray(groups.index, dtype=object))
        kept.update(drawn[: max(round(share * len(drawn)), 1)])
    return table[~is_trained | table["group"].isin(kept)]
