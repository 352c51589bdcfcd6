"""Counts of groups dealt to parts: how far a deal is from what was asked for, and moves and swaps that bring it nearer.

Nothing here knows names or rows; `assign.deal_groups` does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_PAIRS: Final = 4_000_000
"""Kinds of groups in one part times kinds in another up to which swaps are looked for: bounds memory (32 MB a matrix).

Deals of more kinds have so many small groups that single moves do."""
EPSILON: Final = 1e-9
_ABSENT: Final = 1.0
"""What a class that a part lacks costs: as much as a deviation of the square root of the share asked for. A part of 15%
would rather hold half of a class than none of it, but not nearly all."""
EMPTY: Final = 1e6
"""What an empty part costs, and a class that the largest part, which is trained on, lacks."""


class Deal:
    """Groups in parts.

    The cost of a deal is the sum over parts and over classes, with all images as one further class, of
    (share of the class in the part - share asked for)^2 / share asked for, plus a price for each class that a part
    lacks altogether. Groups with the same counts are interchangeable and are looked at as one kind.

    Args:
        matrix: images of each group and class, (G, C).
        shares: what each part is to hold of every class, (P,), all above 0.
    """

    def __init__(self, matrix: FloatArray, shares: FloatArray) -> None:
        self.shares = shares
        self.owner = np.full(len(matrix), -1)
        """The part of each group; -1 where it has none yet."""
        self.images = np.column_stack([matrix, matrix.sum(axis=1)])
        self.totals = self.images.sum(axis=0)
        self.wanted = shares[:, None] * self.totals[None, :]
        self.held = np.zeros_like(self.wanted)
        self._price = np.full(self.wanted.shape, _ABSENT)
        self._price[:, -1] = EMPTY
        if shares.max() > shares.min() + EPSILON:
            self._price[shares.argmax()] = EMPTY

    def give(self, group: int, part: int) -> None:
        """Puts a group that has no part into `part`."""
        self.owner[group] = part
        self.held[part] += self.images[group]

    def cheapest_part(self, group: int) -> int:
        """The part to which `group` comes at the least cost, by its classes and by all its images."""
        share = self.images[group] / self.totals
        lacking = (self.wanted - self.held) / self.totals
        added = ((lacking - share) ** 2 - lacking**2).sum(axis=1) / self.shares
        return int(np.lexsort((-self.shares, np.round(added, 9)))[0])

    def is_met(self) -> bool:
        """Whether every part is less than one image from its share of every class, and no class lacks in more parts
        than its groups are too few for, nor in the part that is trained on."""
        too_few = np.maximum(len(self.shares) - (self.images > 0).sum(axis=0), 0)
        lacks = self.held == 0
        if (lacks.sum(axis=0) > too_few).any() or (lacks & (self._price == EMPTY)).any():
            return False
        return not (np.abs(self.held - self.wanted)[:, :-1] >= 1 - EPSILON).any()

    def badness(self) -> tuple[float, float, float]:
        """What makes one deal worse than another: first what ends the run (an empty part, a class that is not trained
        on), then the largest deviation of a class from its share, then the cost."""
        deviation = np.abs(self.held - self.wanted) / self.totals
        lacks = self.held == 0
        fatal = float(np.count_nonzero(lacks & (self._price == EMPTY)))
        lacking = np.where(lacks, np.sqrt(self.shares)[:, None] * np.sqrt(_ABSENT), 0.0)
        worst = np.maximum(deviation, lacking)[:, :-1].max()
        cost = (deviation**2).sum(axis=1) @ (1 / self.shares) + _ABSENT * np.count_nonzero(lacks)
        return fatal, round(float(worst), 9), float(cost)

    def refine(self, order: IntArray) -> None:
        """Moves groups, or swaps two, as long as the deal is not met and that makes it cheaper.

        Each step is the best of all. Of groups with the same counts the one that `order` (a permutation of the groups)
        names last goes first.
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
        """(K, P, P): how much dearer the deal is with a group of a kind moved from one part to another."""
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
        """(K, C + 1): 1 for the classes that `part` lacks once a group of a kind has left it."""
        return np.asarray((kinds > 0) & (kinds == self.held[part]), dtype=np.float64)

    def _filled(self, kinds: FloatArray, part: int) -> FloatArray:
        """(K, C + 1): 1 for the classes of a kind that `part` lacks now."""
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
                # a class that leaves with the one and comes with the other is not lacking
                both -= (self._vacated(kinds[left], one) * self._price[one]) @ present[right].T
                both -= present[left] @ (self._vacated(kinds[right], other) * self._price[other]).T
                place = int(both.argmin())
                if both.flat[place] < best:
                    best = float(both.flat[place])
                    first, second = np.unravel_index(place, both.shape)
                    found = [(int(left[first]), one, other), (int(right[second]), other, one)]
        return found
