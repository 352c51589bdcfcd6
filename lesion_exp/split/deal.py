"""Optimises how groups are dealt to parts: the cost of a deal, and moves and swaps of groups that lower it.

This module works on counts only; `assign.deal_groups` works on tables.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

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
"""Cost of an empty part, and of a class that is missing from the largest part, which is the training part."""


class Deal:
    """An assignment of groups to parts.

    Its cost is the sum over parts and classes, with all images as one further class, of
    (share of the class in the part - requested share)^2 / requested share, plus a price for each class that is missing
    from a part. Groups with the same counts are interchangeable and are treated as one kind.

    Args:
        matrix: images of each group and class, float64 (G, C).
        shares: requested share of every class in each part, float64 (P,), all above 0.
    """

    def __init__(self, matrix: FloatArray, shares: FloatArray) -> None:
        self.shares = shares
        self.owner = np.full(len(matrix), -1)
        """The part of each group, (G,); -1 for a group that was not dealt yet."""
        self.images = np.column_stack([matrix, matrix.sum(axis=1)])
        self.totals = self.images.sum(axis=0)
        self.wanted = shares[:, None] * self.totals[None, :]
        self.held = np.zeros_like(self.wanted)
        self._price = np.full(self.wanted.shape, _ABSENT)
        self._price[:, -1] = EMPTY
        if shares.max() > shares.min() + EPSILON:
            self._price[shares.argmax()] = EMPTY

    def give(self, group: int, part: int) -> None:
        """Puts a group that was not dealt yet into `part`."""
        self.owner[group] = part
        self.held[part] += self.images[group]

    def cheapest_part(self, group: int) -> int:
        """Returns the part in which `group` costs least, without the prices for missing classes."""
        share = self.images[group] / self.totals
        lacking = (self.wanted - self.held) / self.totals
        added = ((lacking - share) ** 2 - lacking**2).sum(axis=1) / self.shares
        return int(np.lexsort((-self.shares, np.round(added, 9)))[0])

    def is_met(self) -> bool:
        """Whether every part differs by less than one image from its share of every class.

        A class with fewer groups than parts may be missing from as many parts as necessary, but not from the training
        part.
        """
        too_few = np.maximum(len(self.shares) - (self.images > 0).sum(axis=0), 0)
        lacks = self.held == 0
        if (lacks.sum(axis=0) > too_few).any() or (lacks & (self._price == EMPTY)).any():
            return False
        return not (np.abs(self.held - self.wanted)[:, :-1] >= 1 - EPSILON).any()

    def badness(self) -> tuple[float, float, float]:
        """Returns numbers by which deals are compared, lower is better.

        They are the number of empty parts and of classes missing from the training part, which end a run; the largest
        deviation of a class from its share; and the cost.
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
