"""Deals whole groups to the parts of a split so that every part has its share of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split import PARTS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MOST_PAIRS: Final = 4_000_000
"""Kinds of groups in one part times kinds in another up to which swaps are searched for. It limits the memory to 32 MB
a matrix. Deals with more kinds have so many small groups that single moves are enough."""
EPSILON: Final = 1e-9
_ABSENT: Final = 1.0
"""Cost of a class that is missing from a part, equal to a deviation by the square root of the requested share: for a
part of 15%, half of a class is better than nothing of it, but nearly all of it is not."""
EMPTY: Final = 1e6
"""Cost of an empty part, and of a class that is missing from the part that needs every class."""
TRAIN: Final = "train"
"""The part that needs every class."""
MOST_DEALS: Final = 5000
"""Number of ways to deal a few groups up to which all of them are compared, which takes about a second."""
LARGE: Final = 0.5
"""A group of several images is dealt first if it has at least this share of the images of the smallest part."""


class Deal:
    """An assignment of groups to parts.

    Its cost is the sum over parts and classes, with all images as one further class, of
    (share of the class in the part - requested share)^2 / requested share, plus a price for each class that is missing
    from a part. Groups with the same counts are interchangeable and are treated as one kind.

    Args:
        matrix: images of each group and class, float64 (G, C).
        shares: requested share of every class in each part, float64 (P,), all above 0.
        needy: the part that needs every class; None: the largest part, or none if all parts are alike.
    """

    def __init__(self, matrix: FloatArray, shares: FloatArray, needy: int | None = None) -> None:
        self.shares = shares
        self.rank = shares.copy()
        """Of parts that lack a group alike, the one with the highest number takes it, (P,)."""
        if needy is not None:
            self.rank[needy] = 1 + shares.max()
        elif shares.max() > shares.min() + EPSILON:
            needy = int(shares.argmax())
        self.needy = needy
        self.owner = np.full(len(matrix), -1)
        """The part of each group, (G,); -1 for a group that was not dealt yet."""
        self.images = np.column_stack([matrix, matrix.sum(axis=1)])
        self.totals = self.images.sum(axis=0)
        self.wanted = shares[:, None] * self.totals[None, :]
        self.held = np.zeros_like(self.wanted)
        self._price = np.full(self.wanted.shape, _ABSENT)
        self._price[:, -1] = EMPTY
        if needy is not None:
            self._price[needy] = EMPTY

    def give(self, group: int, part: int) -> None:
        """Puts a group that was not dealt yet into `part`."""
        self.owner[group] = part
        self.held[part] += self.images[group]

    def cheapest_part(self, group: int) -> int:
        """Returns the part in which `group` costs least, without the prices for missing classes."""
        share = self.images[group] / self.totals
        lacking = (self.wanted - self.held) / self.totals
        added = ((lacking - share) ** 2 - lacking**2).sum(axis=1) / self.shares
        return int(np.lexsort((-self.rank, np.round(added, 9)))[0])

    def is_met(self) -> bool:
        """Returns whether every part differs by less than one image from its share of every class.

        A class with fewer groups than parts may be missing from as many parts as necessary, but not from the part that
        needs every class.
        """
        too_few = np.maximum(len(self.shares) - (self.images > 0).sum(axis=0), 0)
        lacks = self.held == 0
        if (lacks.sum(axis=0) > too_few).any() or (lacks & (self._price == EMPTY)).any():
            return False
        return not (np.abs(self.held - self.wanted)[:, :-1] >= 1 - EPSILON).any()

    def badness(self) -> tuple[float, float, float]:
        """Returns numbers by which deals are compared, lower is better.

        They are the number of empty parts and of classes missing from the part that needs every class, which end a run;
        the largest deviation of a class from its share; and the cost.
        """
        deviation = np.abs(self.held - self.wanted) / self.totals
        lacks = self.held == 0
        fatal = float(np.count_nonzero(lacks & (self._price == EMPTY)))
        lacking = np.where(lacks, np.sqrt(self.shares)[:, None] * np.sqrt(_ABSENT), 0.0)
        worst = np.maximum(deviation, lacking)[:, :-1].max()
        cost = (deviation**2).sum(axis=1) @ (1 / self.shares) + _ABSENT * np.count_nonzero(lacks)
        return fatal, round(float(worst), 9), float(cost)

    def refine(self, order: IntArray) -> None:
        """Moves single groups, or swaps two, until the shares are met or no step lowers the cost.

        Every step is the best of its kind. Among groups with the same counts, the last one in `order`, a permutation of
        the groups, is moved first.
        """
        if self.is_met():
            return
        kinds, kind = np.unique(self.images, axis=0, return_inverse=True)
        kind = np.asarray(kind).reshape(-1)
        stock: list[list[list[int]]] = [[[] for _ in self.shares] for _ in kinds]
        for group in order:
            stock[kind[group]][self.owner[group]].append(int(group))
        number = np.array([[len(groups) for groups in parts] for parts in stock])
        for _ in range(4 * len(self.owner)):
            if self.is_met():
                return
            step = self._best_move(kinds, number) or self._best_swap(kinds, number)
            if step is None:
                return
            for which, source, target in step:
                group = stock[which][source].pop()
                stock[which][target].append(group)
                number[which, source] -= 1
                number[which, target] += 1
                self.owner[group] = target
                self.held[source] -= kinds[which]
                self.held[target] += kinds[which]

    def _best_move(self, kinds: FloatArray, number: IntArray) -> list[tuple[int, int, int]] | None:
        change = self._changes(kinds, number)
        best = int(change.argmin())
        if change.flat[best] >= -EPSILON:
            return None
        which, source, target = (int(place) for place in np.unravel_index(best, change.shape))
        return [(which, source, target)]

    def _changes(self, kinds: FloatArray, number: IntArray) -> FloatArray:
        """Returns the change of the cost, (K, P, P), if a group of a kind is moved from one part to another."""
        share = kinds / self.totals
        deviation = (self.held - self.wanted) / self.totals
        along = share @ deviation.T / self.shares  # (K, P)
        weight = (share**2).sum(axis=1)[:, None, None] * (1 / self.shares[:, None] + 1 / self.shares[None, :])
        change = -2 * along[:, :, None] + 2 * along[:, None, :] + weight
        leaves = np.stack([self._vacated(kinds, part) @ self._price[part] for part in range(len(self.shares))], axis=1)
        fills = np.stack([self._filled(kinds, part) @ self._price[part] for part in range(len(self.shares))], axis=1)
        change += leaves[:, :, None] - fills[:, None, :]
        change[number == 0] = np.inf
        change[:, np.arange(len(self.shares)), np.arange(len(self.shares))] = np.inf
        return np.asarray(change, dtype=np.float64)

    def _vacated(self, kinds: FloatArray, part: int) -> FloatArray:
        """Returns (K, C + 1): 1 for the classes that `part` would lack without a group of a kind."""
        return np.asarray((kinds > 0) & (kinds == self.held[part]), dtype=np.float64)

    def _filled(self, kinds: FloatArray, part: int) -> FloatArray:
        """Returns (K, C + 1): 1 for the classes of a kind that `part` lacks now."""
        return np.asarray((kinds > 0) & (self.held[part] == 0), dtype=np.float64)

    def _best_swap(self, kinds: FloatArray, number: IntArray) -> list[tuple[int, int, int]] | None:
        change = self._changes(kinds, number)
        share, present = kinds / self.totals, (kinds > 0).astype(np.float64)
        best, found = -EPSILON, None
        for one in range(len(self.shares)):
            for other in range(one + 1, len(self.shares)):
                left, right = np.flatnonzero(number[:, one]), np.flatnonzero(number[:, other])
                if not 0 < len(left) * len(right) <= MOST_PAIRS:
                    continue
                both = change[left, one, other][:, None] + change[right, other, one][None, :]
                both -= 2 * (share[left] @ share[right].T) * (1 / self.shares[one] + 1 / self.shares[other])
                # a class that leaves with one group and comes with the other is not missing
                both -= (self._vacated(kinds[left], one) * self._price[one]) @ present[right].T
                both -= present[left] @ (self._vacated(kinds[right], other) * self._price[other]).T
                place = int(both.argmin())
                if both.flat[place] < best:
                    best = float(both.flat[place])
                    first, second = np.unravel_index(place, both.shape)
                    found = [(int(left[first]), one, other), (int(right[second]), other, one)]
        return found


def deal_groups(table: pd.DataFrame, group: pd.Series, shares: Mapping[str, float], seed: int) -> pd.Series:
    """Returns the part of each row, such that groups stay together and every part has about its share of every class.

    The groups are dealt in four steps:

    1. Groups with at least half as many images as the smallest part are dealt first, from the largest to the smallest,
       each to the part where it costs least (see `Deal`).
    2. The other groups are dealt class by class, from the rarest to the most frequent class, and within a class from
       the largest to the smallest group, with ties in random order. Each goes to the part that lacks most of that
       class. Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, describe the idea for labels instead of groups.
    3. If some part then differs by an image or more from its share of a class, groups are moved and swapped as long as
       that lowers the cost. If it still differs, a second deal begins with all groups by size, and the better of the
       two is used.
    4. If a part is still empty, or a class is missing from the largest part, and there are few groups, all ways to
       deal them are compared.

    The largest part is that of training as a rule. Where it is not, and training lacks a class, the groups are dealt
    again so that training has every class if there is a way.

    The result depends on the names of the groups and the seed, not on the order of rows.

    Args:
        table: the table, with `label`.
        group: the group of each row.
        shares: part -> share of the images. The shares add up to 1; a part with share 0 gets nothing.
        seed: seed of the order of ties.
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
    deal = _best_deal(matrix, wanted, tie, rarity)
    if TRAIN in parts and deal.needy != (train := parts.index(TRAIN)) and (deal.held[train] == 0).any():
        deal = _best_deal(matrix, wanted, tie, rarity, train)
    named = pd.Series(np.asarray(parts, dtype=object)[deal.owner], index=names)
    return pd.Series(named.loc[group.to_numpy()].to_numpy(), index=table.index, name="split")


def _best_deal(
    matrix: FloatArray, wanted: FloatArray, tie: IntArray, rarity: Sequence[int], needy: int | None = None
) -> Deal:
    """Returns the deal of the four steps of `deal_groups`."""
    deal = Deal(matrix, wanted, needy)
    _deal_by_class(deal, tie, rarity)
    deal.refine(np.argsort(tie))
    if not deal.is_met():
        other = Deal(matrix, wanted, needy)
        _deal_by_size(other, tie, np.arange(len(matrix)))
        other.refine(np.argsort(tie))
        deal = min(deal, other, key=Deal.badness)
    if deal.badness()[0] > 0 and len(wanted) ** len(matrix) <= MOST_DEALS:
        every = product(range(len(wanted)), repeat=len(matrix))
        deal = min((_deal_as(matrix, wanted, owners, needy) for owners in every), key=Deal.badness)
    return deal


def _deal_as(matrix: FloatArray, wanted: FloatArray, owners: Sequence[int], needy: int | None) -> Deal:
    """Returns the deal in which group i belongs to the part `owners[i]`."""
    deal = Deal(matrix, wanted, needy)
    for group, part in enumerate(owners):
        deal.give(group, part)
    return deal


def _deal_by_class(deal: Deal, tie: IntArray, rarity: Sequence[int]) -> None:
    """Deals large groups by size, then the others class by class."""
    sizes = deal.images[:, -1]
    is_large = (sizes >= LARGE * deal.shares.min() * sizes.sum()) & (sizes > 1)
    _deal_by_size(deal, tie, np.flatnonzero(is_large))
    for column in rarity:
        groups = np.flatnonzero((deal.images[:, column] > 0) & (deal.owner < 0))
        for row in groups[np.lexsort((tie[groups], -deal.images[groups, column]))]:
            deal.give(row, _neediest(deal, column))


def _deal_by_size(deal: Deal, tie: IntArray, groups: IntArray) -> None:
    for row in groups[np.lexsort((tie[groups], -deal.images[groups, -1]))]:
        deal.give(row, deal.cheapest_part(row))


def check_ratios(ratios: Mapping[str, float]) -> dict[str, float]:
    """Checks the shares of train, val and test, and returns them as floats.

    Raises:
        ConfigError: parts are missing or unknown, a share is not above 0, or the sum is not 1.
    """
    if set(ratios) != set(PARTS):
        raise ConfigError(
            f"expected split.ratios for train, val and test, got {', '.join(ratios)}; for example "
            f"split.ratios={{train: 0.7, val: 0.15, test: 0.15}}"
        )
    values = {part: float(ratios[part]) for part in PARTS}
    if min(values.values()) < 0 or not 0.999 < sum(values.values()) < 1.001:
        raise ConfigError(
            f"expected split.ratios of at least 0 that add up to 1, got {values} with the sum "
            f"{sum(values.values()):g}; for example split.ratios={{train: 0.7, val: 0.15, test: 0.15}}"
        )
    for part in PARTS:
        if values[part] == 0:
            raise ConfigError(
                f"expected split.ratios.{part} above 0, got 0; training and evaluation need all three parts"
            )
    return values


def apply_splitter(splitter: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Splits `table` by `splitter`, an option of this package or a user's own class, and checks the result.

    Raises:
        ConfigError: the class has no method `split`, or the method does not return the table with a part for each row.
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


def require_parts(table: pd.DataFrame, remedy: str = "use more images or other split.ratios") -> pd.DataFrame:
    """Returns `table` if train, val and test each have at least one image.

    `remedy` is the end of the message, which names keys of the splitter.

    Raises:
        DataError: a part is empty.
    """
    empty = [part for part in PARTS if not (table["split"] == part).any()]
    if empty:
        raise DataError(
            f"expected images in train, val and test, but {' and '.join(empty)} "
            f"{'is' if len(empty) == 1 else 'are'} empty: {len(table)} images in {table['group'].nunique()} groups are "
            f"too few for this split{_shared_ids(table)}; {remedy}"
        )
    return table


def _neediest(deal: Deal, column: int) -> int:
    """Returns the part that lacks most images of the class in `column`, relative to its share.

    Ties go to the larger share, so that the only group of a class is in the training part as a rule (see `Deal.rank`),
    then to the part that lacks most images.
    """
    lacking = (deal.wanted - deal.held) / deal.shares[:, None]
    relative, overall = np.round(lacking[:, column], 9), np.round(lacking[:, -1], 9)
    return int(np.lexsort((-overall, -deal.rank, -relative))[0])


def _shared_ids(table: pd.DataFrame) -> str:
    """Returns the part of a message about ids that most images have, since these images are one group."""
    counts = {column: table[column].value_counts() for column in ("patient_id", "lesion_id") if column in table}
    large = {column: found for column, found in counts.items() if len(found) and found.iloc[0] > len(table) / 2}
    if not large:
        return ""
    cases = " and ".join(
        f"{found.iloc[0]} of them have the {column} {found.index[0]!r}" for column, found in large.items()
    )
    columns = ", ".join(f"{column}: null" for column in large)
    return (
        f" ({cases}; if that is not an id, empty these cells of the table, or with dataset=csv leave the column out "
        f"with 'dataset.columns={{{columns}}}')"
    )
