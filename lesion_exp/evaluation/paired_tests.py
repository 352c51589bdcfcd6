"""McNemar's and DeLong's tests of two models on the same lesions, paired bootstrap draws, and Holm's correction."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lesion_exp.evaluation.delong import PlacedArea, delong_p, placed_area
from lesion_exp.evaluation.intervals import (
    Estimate,
    Unit,
    lesion_draws,
    lesion_of,
    percentile_interval,
    with_units,
)
from lesion_exp.evaluation.lesion_counts import is_enough, lesion_counts
from lesion_exp.evaluation.limits import Limits, combined_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.metrics import metrics_and_added
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
from lesion_exp.evaluation.weighted import Score, Weighted


def mcnemar_p(surplus: IntArray) -> float:
    """Returns the exact two-sided p-value of McNemar's test for clustered images.

    If neither model is better, both signs of a lesion's surplus are equally probable. The p-value is the share of all
    assignments of signs whose sum is at least as far from 0 as the observed sum. If each lesion has one image, this is
    McNemar's exact test (binomial over the images that exactly one model predicts correctly); McNemar's test itself
    does not take into account that images belong to the same lesion.
    Sources: McNemar 1947, doi:10.1007/BF02295996; Fisher 1935, The Design of Experiments, section 21.

    Args:
        surplus: int (L,), for each lesion the number of images that only the first model predicts correctly, minus that
            of images that only the second does.
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
    """Returns the argument of `mcnemar_p`, int64 (L,).

    Args:
        first: int (N,), 1 if the first model is right, else 0.
        second: the same for the second model.
        lesion: int (N,), the lesion of each image, in 0..L-1.
        num_lesions: L.
    """
    return np.bincount(lesion, (first - second).astype(np.float64), minlength=num_lesions).round().astype(np.int64)


def lesions_to_change(
    first: IntArray,
    second: IntArray,
    lesion: IntArray,
    num_lesions: int,
    is_significant: Callable[[float], bool],
) -> int | None:
    """Returns the number of lesions whose predictions by the better model would have to change for the significance of
    the difference to change: the fragility index.

    If the difference is not significant, lesions become right (all their images) that were wrong; if it is significant,
    lesions become wrong that were right. The lesions with the largest effect are changed first, which gives the
    smallest number if each lesion has one image, and otherwise sometimes one more. The result is None if changing all
    of them does not change the significance. A small number is a warning that few predictions decide the result.
    Source: Walsh et al. 2014, doi:10.1016/j.jclinepi.2013.10.019.

    Args:
        first: int (N,), 1 if the first model is right, else 0.
        second: the same for the second model.
        lesion: int (N,), the lesion of each image, in 0..L-1.
        num_lesions: L.
        is_significant: whether a p-value of `mcnemar_p` is significant.
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
    # beyond the change at which the lead is lost, further changes would make the other model the better one
    most = min(int(np.count_nonzero(ahead > 0)) + 1, len(order)) if before else len(order)

    def turned(number: int) -> bool:
        changed = surplus.copy()
        changed[order[:number]] = after[order[:number]]
        return is_significant(mcnemar_p(changed)) != before

    return _first(turned, most)


def _first(is_so: Callable[[int], bool], most: int) -> int | None:
    """Returns the smallest number from 1 to `most` for which `is_so` is true, found by bisection; None if there is
    none.

    `is_so` must be true for all larger numbers, too.
    """
    high = 1
    while high < most and not is_so(high):
        high *= 2
    high = min(high, most)
    numbers = range(high // 2 + 1, high + 1)
    place = bisect_left(numbers, True, key=is_so)
    return numbers[place] if place < len(numbers) else None


@dataclass(frozen=True)
class _OneClass:
    """One class against the rest."""

    positive: BoolArray
    right: list[IntArray]
    areas: list[PlacedArea | None]


class PairedTests:
    """McNemar's and DeLong's tests between any two of several predictions tables with the same rows.

    `classes` are the diagnoses; for several diagnoses also `malignant` (see `malignant_view`).
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
        """Returns the p-value of McNemar's test over all images, or over those of a class."""
        right = self.right if class_name is None else self.classes[class_name].right
        chosen = slice(None) if class_name is None else self.classes[class_name].positive
        surplus = surplus_of(right[one][chosen], right[two][chosen], self.lesion[chosen], self.num_lesions)
        return mcnemar_p(surplus)

    def has_large_classes(self, class_name: str | None) -> bool:
        """Returns whether the class, or each of the diagnoses present, has enough lesions for DeLong's test, and so
        have the other classes.

        The normal approximation finds too many differences in a mean over classes if one of them has few lesions.
        """
        known = [name for name in self.diagnoses if self.classes[name].positive.any()]
        names = known if class_name is None else [class_name]
        return all(is_enough(self.counts.of(f"auroc/{name}")) for name in names)

    def delong(self, one: int, two: int, class_name: str | None, difference: float) -> float | None:
        """Returns DeLong's p-value for the area of a class, or for the mean area over the diagnoses present."""
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
    """Metrics of T models on the same images and on the same bootstrap draws; NaN where a metric is undefined.

    Metrics of probabilities are missing where a model has predicted labels only.
    """

    estimates: dict[str, FloatArray]
    """float64 (T,), by metric."""
    draws: dict[str, FloatArray]
    """float64 (T, D), by metric; column d is the same draw of lesions for all models."""
    metrics: Sequence[Weighted] = ()
    """The metrics of each table as a function of the weights of its lesions."""

    def limits(self, name: str, groups: Sequence[int]) -> Limits | None:
        """Returns the limits of a metric of one table, or of the difference between two tables, first minus second.

        The result is None if the interval follows from the bootstrap draws instead, as it does for the difference of
        two areas, unless that is the same in all draws in which both are defined.
        """
        if len(groups) == 2 and name.partition("/")[0] in {"auroc", AUROC_MACRO}:
            drawn = self.draws[name][groups[0]] - self.draws[name][groups[1]]
            if np.nanmax(drawn, initial=-np.inf) > np.nanmin(drawn, initial=np.inf):
                return None
        if any(name not in self.metrics[table].limits for table in groups):
            return None
        parts = [self.metrics[table].limits[name]() for table in groups]
        if len(parts) == 1:
            return parts[0]
        return None if any(part.influence is None for part in parts) else combined_limits((1.0, -1.0), parts)


def paired_draws(
    tables: Sequence[pd.DataFrame],
    names: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    added: Mapping[str, Score] | None = None,
) -> PairedDraws:
    """Returns the metrics of each table, and their values on bootstrap draws that all tables share.

    Images that are hard for one model are mostly hard for the other. Shared draws remove this variation from the
    difference, whose interval becomes narrower than that for two different test parts. The draws are those of
    `bootstrap`.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        names: the names of the metrics.
        draws: number of bootstrap draws.
        seed: seed of the draws, which also depend on the number of lesions.
        added: further metrics, by those of `names` that have no function here.

    Raises:
        ConfigError: `draws` is not positive.
    """
    lesion, num_lesions = lesion_of(tables[0])
    functions = [metrics_and_added(table, lesion, num_lesions, names, added or {}) for table in tables]
    whole = [at(np.ones((num_lesions, 1))) for at in functions]
    names = [name for name in names if all(name in values for values in whole)]
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
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    unit: Unit = "lesion",
) -> dict[str, Estimate]:
    """Returns the difference of each metric, first minus second, with its 95% interval from shared draws.

    The arguments are those of `paired_draws`, and what is drawn, lesions or patients. Metrics that are undefined for a
    table or for all draws are left out.
    """
    found = paired_draws([with_units(first, unit), with_units(second, unit)], names, draws, seed)
    differences = {}
    for name in found.estimates:
        limits = found.limits(name, (0, 1))
        drawn = percentile_interval(found.draws[name][0] - found.draws[name][1])
        interval = drawn if limits is None else (limits.low, limits.high)
        differences[name] = Estimate(float(found.estimates[name][0] - found.estimates[name][1]), *interval)
    return {name: estimate for name, estimate in differences.items() if not np.isnan(estimate).any()}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns the p-values adjusted by Holm's method, in the order given; None is not counted and remains None.

    With m values in rising order, the k-th becomes the largest of (m - j + 1) p_j, j <= k, at most 1. If values below
    0.05 are called significant, the probability of any false finding is at most 5%, for any dependence between tests.
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
