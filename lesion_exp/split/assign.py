"""Groups dealt to parts: whole groups, every class in every part in the shares asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split import PARTS


def deal_groups(table: pd.DataFrame, group: pd.Series, shares: Mapping[str, float], seed: int) -> pd.Series:
    """The part of each row, so that no group is torn and each class comes near to its share of `shares` in every part.

    Greedy: classes from the rarest to the most frequent, within a class groups from the largest to the smallest (ties
    in a random order of their names); each goes to the part that lacks most of that class. The result depends on names
    and seed, not on the order of rows. Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, describe the idea for
    labels instead of groups.

    Args:
        table: with `label`.
        group: the group of each row.
        shares: part -> share of the images, adding up to 1; parts of share 0 get nothing.
        seed: of the order of ties.
    """
    parts = [part for part, share in shares.items() if share > 0]
    wanted = np.array([shares[part] for part in parts], dtype=np.float64)
    keys = pd.DataFrame({"group": group.to_numpy(), "label": table["label"].to_numpy()})
    counts = keys.groupby(["group", "label"]).size().unstack(fill_value=0).sort_index()
    names = counts.index.to_numpy()
    matrix = counts.to_numpy(np.float64)
    totals = matrix.sum(axis=0)
    rng = np.random.default_rng([seed, 0x5B])
    tie = rng.permutation(len(names))
    owner = np.full(len(names), -1)
    lacking = wanted[:, None] * totals[None, :]
    rarity = sorted(range(len(totals)), key=lambda column: (totals[column], counts.columns[column]))
    for column in rarity:
        members = np.flatnonzero((matrix[:, column] > 0) & (owner < 0))
        for row in members[np.lexsort((tie[members], -matrix[members, column]))]:
            part = _neediest(lacking, column, matrix[row], wanted)
            owner[row] = part
            lacking[part] -= matrix[row]
    named = pd.Series(np.asarray(parts, dtype=object)[owner], index=names)
    return pd.Series(named.loc[group.to_numpy()].to_numpy(), index=table.index, name="split")


def check_ratios(ratios: Mapping[str, float]) -> dict[str, float]:
    """`ratios` as shares of train, val and test.

    Raises:
        ConfigError: other parts, negative shares, no training part, or a sum that is not 1.
    """
    if set(ratios) != set(PARTS):
        raise ConfigError(f"expected split.ratios for train, val and test, got {', '.join(ratios)}")
    values = {part: float(ratios[part]) for part in PARTS}
    if min(values.values()) < 0 or not 0.999 < sum(values.values()) < 1.001:
        raise ConfigError(
            f"expected split.ratios of at least 0 that add up to 1, got {values}, together {sum(values.values()):g}; "
            f"for example split.ratios={{train: 0.7, val: 0.15, test: 0.15}}"
        )
    for part in PARTS:
        if values[part] == 0:
            raise ConfigError(
                f"expected split.ratios.{part} above 0, got 0: without it a run cannot be trained and judged"
            )
    return values


def require_parts(table: pd.DataFrame) -> pd.DataFrame:
    """`table`, if train, val and test each have an image.

    Raises:
        DataError: a part is empty.
    """
    empty = [part for part in PARTS if not (table["split"] == part).any()]
    if empty:
        raise DataError(
            f"expected images in train, val and test, but {' and '.join(empty)} "
            f"{'is' if len(empty) == 1 else 'are'} empty: {len(table)} images in {table['group'].nunique()} groups are "
            f"too few for this split; use more images or other split.ratios"
        )
    return table


def _neediest(
    lacking: npt.NDArray[np.float64], column: int, group: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> int:
    """The part that lacks most images of the class, relative to its share.

    Ties go to the larger share, so that the only group of a class is trained on, then to the part that lacks most
    images.
    """
    relative, overall = np.round(lacking[:, column] / wanted, 9), np.round(lacking.sum(axis=1) / wanted, 9)
    return int(np.lexsort((-overall, -wanted, -relative))[0])
