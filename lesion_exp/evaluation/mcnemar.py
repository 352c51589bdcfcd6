"""McNemar's exact test of two models' right and wrong answers, lesion by lesion, and how close its verdict is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import stats

from lesion_exp.evaluation.predictions import FloatArray, IntArray


def mcnemar_p(surplus: IntArray) -> float:
    """Two-sided exact p-value of the sum of `surplus`, int (L,): per lesion, images that only the first model read
    right minus images that only the second did.

    If neither is better, a lesion's surplus could as well have the other sign. The p-value is the share of all
    assignments of signs whose sum lies as far from 0 as the one seen, or farther. Where each lesion has one image this
    is McNemar's exact test (binomial over the images that one model alone reads right); else the images of a lesion
    stay together, which McNemar's test does not do.
    Sources: McNemar 1947, doi:10.1007/BF02295996; Fisher 1935, The Design of Experiments, section 21.
    """
    sizes, counts = np.unique(np.abs(surplus[surplus != 0]), return_counts=True)
    chances: FloatArray = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):  # the sum of `count` signs times `size`
        spread = np.zeros(2 * size * count + 1)
        spread[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    middle = len(chances) // 2
    sums = np.abs(np.arange(len(chances)) - middle)
    return min(1.0, float(chances[sums >= abs(int(surplus.sum()))].sum()))


def surplus_of(first: IntArray, second: IntArray, lesion: IntArray, num_lesions: int) -> IntArray:
    """What `mcnemar_p` takes, from right answers as 0 and 1, int (N,), and the lesion of each image."""
    return np.bincount(lesion, (first - second).astype(np.float64), minlength=num_lesions).round().astype(np.int64)


def lesions_to_change(
    first: IntArray,
    second: IntArray,
    lesion: IntArray,
    num_lesions: int,
    is_significant: Callable[[float], bool],
) -> int | None:
    """On how many lesions the model that is ahead would have to answer otherwise for the verdict to turn.

    Not significant: lesions on which it would have to be right (with all their images) instead of wrong. Significant:
    wrong instead of right. Those that weigh most are changed first, which needs the fewest where each lesion has one
    image, else now and then one more than the fewest. None where changing all of them does not turn it. A small
    number is a warning: so few answers carry the verdict.
    Source: the fragility index, Walsh et al. 2014, doi:10.1016/j.jclinepi.2013.10.019.

    Args:
        first: int (N,), 1 where the first model is right, else 0.
        second: the same for the second model.
        lesion: int (N,), the lesion of each image.
        num_lesions: number of lesions.
        is_significant: the verdict on a p-value of `mcnemar_p`.
    """
    surplus = surplus_of(first, second, lesion, num_lesions)
    leader = first
    if surplus.sum() < 0:
        surplus, leader = -surplus, second
    before = is_significant(mcnemar_p(surplus))
    sign = -1 if before else 1
    right = np.bincount(lesion, leader.astype(np.float64), minlength=num_lesions).round().astype(np.int64)
    gain = right if before else np.bincount(lesion, minlength=num_lesions) - right
    after = surplus + sign * gain
    # the largest change first; among equals the one that leaves the variance largest when losing, smallest when winning
    spread = after**2 - surplus**2
    order = np.lexsort((sign * spread, -gain))[: np.count_nonzero(gain)]
    ahead = surplus.sum() + sign * gain[order].cumsum()
    most = min(int(np.count_nonzero(ahead > 0)) + 1, len(order)) if before else len(order)  # no lead is left there

    def turned(number: int) -> bool:
        changed = surplus.copy()
        changed[order[:number]] = after[order[:number]]
        return is_significant(mcnemar_p(changed)) != before

    return _first(turned, most)


def _first(is_so: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 1 to `most` that `is_so`, which stays so for all larger ones; None if there is none."""
    high = 1
    while high < most and not is_so(high):
        high *= 2
    high = min(high, most)
    numbers = range(high // 2 + 1, high + 1)
    place = bisect_left(numbers, True, key=is_so)
    return numbers[place] if place < len(numbers) else None
