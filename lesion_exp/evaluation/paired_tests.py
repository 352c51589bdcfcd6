"""Tests of the difference between two models on the same lesions, and Holm's correction of their p-values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lesion_exp.evaluation.delong import PlacedArea, delong_p, placed_area
from lesion_exp.evaluation.intervals import Estimate, lesion_draws, lesion_of, percentile_interval
from lesion_exp.evaluation.lesion_counts import is_enough, lesion_counts
from lesion_exp.evaluation.limits import Limits, combined_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    predicted_classes,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Weighted


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


@dataclass(frozen=True)
class _OneClass:
    """A class against the rest, for each table."""

    positive: BoolArray
    right: list[IntArray]
    areas: list[PlacedArea | None]


class PairedTests:
    """McNemar's and DeLong's test between any two of several tables with the same rows; the tables are read once.

    Classes are the diagnoses, and for several of them `malignant`, their malignant view.
    """

    def __init__(self, tables: Sequence[pd.DataFrame]) -> None:
        self.lesion, self.num_lesions = lesion_of(tables[0])
        self.counts = lesion_counts(tables[0])
        self.diagnoses = classes_of(tables[0])
        self.right = [self._right(table) for table in tables]
        self.classes = {name: self._one_class(name, tables, self.right) for name in self.diagnoses}
        if MALIGNANT not in self.diagnoses:
            views = [view for view in map(malignant_view, tables) if view is not None]
            if views:
                self.classes[MALIGNANT] = self._one_class(MALIGNANT, views, [self._right(view) for view in views])

    def mcnemar(self, one: int, two: int, class_name: str | None) -> float:
        """The p-value over all images, or over those of a class."""
        right = self.right if class_name is None else self.classes[class_name].right
        chosen = slice(None) if class_name is None else self.classes[class_name].positive
        surplus = surplus_of(right[one][chosen], right[two][chosen], self.lesion[chosen], self.num_lesions)
        return mcnemar_p(surplus)

    def has_large_classes(self, class_name: str | None) -> bool:
        """Whether the class, or each of the diagnoses present, and its rest have enough lesions for DeLong's test.

        Its normal approximation finds too many differences in a mean over classes of which one has few lesions.
        """
        known = [name for name in self.diagnoses if self.classes[name].positive.any()]
        names = known if class_name is None else [class_name]
        return all(is_enough(self.counts.of(f"auroc/{name}")) for name in names)

    def delong(self, one: int, two: int, class_name: str | None, difference: float) -> float | None:
        """The p-value of the area of a class, or of the mean over the diagnoses present."""
        present = [name for name in self.diagnoses if self.classes[name].positive.any()]
        influences: list[FloatArray] = []
        for name in present if class_name is None else [class_name]:
            first, second = self.classes[name].areas[one], self.classes[name].areas[two]
            if first is None or second is None:
                return None
            influences.append(first.influence - second.influence)
        return delong_p(difference, np.mean(influences, axis=0))

    def _right(self, table: pd.DataFrame) -> IntArray:
        right: IntArray = (predicted_classes(table) == true_classes(table)).astype(np.int64)
        return right

    def _one_class(self, name: str, tables: Sequence[pd.DataFrame], right: list[IntArray]) -> _OneClass:
        place = classes_of(tables[0]).index(name)
        positive = true_classes(tables[0]) == place
        scores = [probabilities(table)[:, place] for table in tables]
        areas = [placed_area(found, positive, self.lesion, self.num_lesions) for found in scores]
        return _OneClass(positive, right, areas)


@dataclass(frozen=True)
class PairedDraws:
    """Metrics of T models on the same images; NaN where a table or a draw does not determine a metric."""

    estimates: dict[str, FloatArray]
    """float64 (T,), on the images as they are."""
    draws: dict[str, FloatArray]
    """float64 (T, D), on the bootstrap draws; column d is the same draw of lesions for all models."""
    metrics: Sequence[Weighted] = ()
    """Those of each table, as functions of the weights of its lesions."""

    def limits(self, name: str, groups: Sequence[int]) -> Limits | None:
        """The limits of a metric of one table, or of that of the first less that of the second of two; None where they
        are those of the draws, as for the difference of two areas that varies."""
        is_area = name.partition("/")[0] in {"auroc", AUROC_MACRO}
        if len(groups) == 2 and is_area and np.ptp(self.draws[name][groups[0]] - self.draws[name][groups[1]]) > 0:
            return None
        if any(name not in self.metrics[table].limits for table in groups):
            return None
        parts = [self.metrics[table].limits[name]() for table in groups]
        if len(parts) == 1:
            return parts[0]
        return None if any(part.influence is None for part in parts) else combined_limits((1.0, -1.0), parts)


def paired_draws(tables: Sequence[pd.DataFrame], names: Sequence[str], draws: int = 2000, seed: int = 0) -> PairedDraws:
    """The metrics `names` of each table, estimated and on `draws` bootstrap draws of lesions that all tables share.

    An image that is hard for one model is mostly hard for the other; drawing both together takes this out of the
    difference, whose interval becomes narrower than that of two test parts. The draws are those of `intervals`.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        names: metrics, as `metrics` names them.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of the number of lesions.

    Raises:
        ConfigError: `draws` is not positive.
    """
    lesion, num_lesions = lesion_of(tables[0])
    functions = [weighted_metrics(table, lesion, num_lesions, names) for table in tables]
    whole = [at(np.ones((num_lesions, 1))) for at in functions]
    blocks = [[at(weights) for at in functions] for weights in lesion_draws(num_lesions, draws, seed)]
    return PairedDraws(
        {name: np.array([values[name][0] for values in whole]) for name in names},
        {
            name: np.concatenate([np.stack([values[name] for values in block]) for block in blocks], axis=1)
            for name in names
        },
        functions,
    )


def paired_differences(
    first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Each metric of `first` less that of `second`, both on the same draws, with its 95% interval.

    The arguments are those of `paired_draws`; what the tables or all draws leave undetermined is left out.
    """
    found = paired_draws([first, second], names, draws, seed)
    differences = {}
    for name in names:
        limits = found.limits(name, (0, 1))
        drawn = percentile_interval(found.draws[name][0] - found.draws[name][1])
        interval = drawn if limits is None else (limits.low, limits.high)
        differences[name] = Estimate(float(found.estimates[name][0] - found.estimates[name][1]), *interval)
    return {name: estimate for name, estimate in differences.items() if not np.isnan(estimate).any()}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The adjusted p-values, in the order given; those that are None stay so and do not count.

    With m values in rising order, the k-th becomes the largest of (m - j + 1) p_j, j <= k, at most 1. Calling those
    below 0.05 real is wrong about any of them with a probability of at most 5%, however they depend on each other.
    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    places = [place for place, p_value in enumerate(p_values) if p_value is not None]
    known = np.array([p_value for p_value in p_values if p_value is not None])
    order = np.argsort(known, kind="stable")
    scaled = known[order] * (len(known) - np.arange(len(known)))
    adjusted = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(known) else scaled
    result: list[float | None] = [None] * len(p_values)
    for rank, position in enumerate(order):
        result[places[position]] = float(adjusted[rank])
    return result
