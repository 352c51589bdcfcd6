"""Groups dealt to parts: whole groups, every class in every part in the shares asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split import PARTS
from lesion_exp.split.deal import Deal, FloatArray, IntArray

MOST_DEALS: Final = 5000
"""Ways to deal a few groups up to which all of them are compared; a second of work."""
LARGE: Final = 0.5
"""Share of the smallest part's images from which on a group of several images is dealt before all others."""


def deal_groups(table: pd.DataFrame, group: pd.Series, shares: Mapping[str, float], seed: int) -> pd.Series:
    """The part of each row, so that no group is torn and each class comes near to its share of `shares` in every part.

    1. Groups of half of the smallest part's images and more, from the largest to the smallest, each to the part where
       it does least harm by what the parts lack of its classes and of all images.
    2. The others: classes from the rarest to the most frequent, within a class groups from the largest to the smallest
       (ties in a random order of their names); each goes to the part that lacks most of that class. Sechidis et al.
       2011, doi:10.1007/978-3-642-23808-6_10, describe the idea for labels instead of groups.
    3. Where a part is then an image or more from its share of a class, groups are moved and swapped as long as that
       brings the parts nearer; see `Deal`. If it still is, a second deal begins with all groups by size, and the
       better of the two counts.
    4. Where a part is still empty, or a class is not trained on, and the groups are few, all ways to deal them are
       compared.

    The result depends on names and seed, not on the order of rows.

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
    rarity = sorted(range(matrix.shape[1]), key=lambda column: (totals[column], counts.columns[column]))
    deal = Deal(matrix, wanted)
    _deal_by_class(deal, tie, rarity)
    deal.refine(np.argsort(tie))
    if not deal.is_met():
        other = Deal(matrix, wanted)
        _deal_by_size(other, tie, np.arange(len(names)))
        other.refine(np.argsort(tie))
        deal = min(deal, other, key=Deal.badness)
    if deal.badness()[0] > 0 and len(parts) ** len(names) <= MOST_DEALS:
        deal = min((_deal_as(matrix, wanted, owners) for owners in product(range(len(parts)), repeat=len(names))),
                   key=Deal.badness)  # fmt: skip
    named = pd.Series(np.asarray(parts, dtype=object)[deal.owner], index=names)
    return pd.Series(named.loc[group.to_numpy()].to_numpy(), index=table.index, name="split")


def _deal_as(matrix: FloatArray, wanted: FloatArray, owners: Sequence[int]) -> Deal:
    """The deal in which the groups belong to the parts `owners`."""
    deal = Deal(matrix, wanted)
    for group, part in enumerate(owners):
        deal.give(group, part)
    return deal


def _deal_by_class(deal: Deal, tie: IntArray, rarity: Sequence[int]) -> None:
    """Large groups by size, then the others class by class."""
    sizes = deal.images[:, -1]
    is_large = (sizes >= LARGE * deal.shares.min() * sizes.sum()) & (sizes > 1)
    _deal_by_size(deal, tie, np.flatnonzero(is_large))
    for column in rarity:
        members = np.flatnonzero((deal.images[:, column] > 0) & (deal.owner < 0))
        for row in members[np.lexsort((tie[members], -deal.images[members, column]))]:
            deal.give(row, _neediest(deal.wanted - deal.held, column, deal.shares))


def _deal_by_size(deal: Deal, tie: IntArray, groups: IntArray) -> None:
    for row in groups[np.lexsort((tie[groups], -deal.images[groups, -1]))]:
        deal.give(row, deal.cheapest_part(row))


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


def dealt_by(splitter: Any, table: pd.DataFrame) -> pd.DataFrame:
    """`table` as `splitter`, an option of the split or a user's own, deals it.

    Raises:
        ConfigError: it has no method `split`, or that does not return the table with a part for each row.
    """
    name = type(splitter).__name__
    if not callable(getattr(splitter, "split", None)):
        raise ConfigError(
            f"expected a class with a method split(table) for the split, got {name}, which has none; "
            f"{name}.split takes the table and returns it with the column split"
        )
    dealt = splitter.split(table)
    if not isinstance(dealt, pd.DataFrame) or "split" not in dealt:
        got = "a table without it" if isinstance(dealt, pd.DataFrame) else f"{type(dealt).__name__}"
        raise ConfigError(
            f"expected {name}.split to return the table with the column split, got {got}; end it with "
            f"return table.assign(split=parts)"
        )
    if others := sorted({"nothing" if pd.isna(part) else str(part) for part in dealt["split"]} - set(PARTS)):
        raise ConfigError(
            f"expected only {', '.join(PARTS)} in the column split of the table that {name}.split returns, got "
            f"{', '.join(others)}; give every row one of these parts, or leave the row out"
        )
    return dealt


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
            f"too few for this split{_shared_ids(table)}; use more images or other split.ratios"
        )
    return table


def _neediest(lacking: npt.NDArray[np.float64], column: int, wanted: npt.NDArray[np.float64]) -> int:
    """The part that lacks most images of the class, relative to its share; the last column of `lacking` is all images.

    Ties go to the larger share, so that the only group of a class is trained on, then to the part that lacks most
    images.
    """
    relative, overall = np.round(lacking[:, column] / wanted, 9), np.round(lacking[:, -1] / wanted, 9)
    return int(np.lexsort((-overall, -wanted, -relative))[0])


def _shared_ids(table: pd.DataFrame) -> str:
    """What to look at where most images are one group, since they have one id."""
    counts = {column: table[column].value_counts() for column in ("patient_id", "lesion_id") if column in table}
    large = {column: found for column, found in counts.items() if len(found) and found.iloc[0] > len(table) / 2}
    if not large:
        return ""
    cases = " and ".join(
        f"{found.iloc[0]} of them have the {column} {found.index[0]!r}" for column, found in large.items()
    )
    columns = ", ".join(f"{column}: null" for column in large)
    return (
        f" ({cases}; if that is no id, empty these cells of the table, or with dataset=csv leave the column out with "
        f"'dataset.columns={{{columns}}}')"
    )
