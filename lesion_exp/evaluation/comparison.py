"""Jobs compared on the same images: every metric's difference, its interval and its test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.lesion_counts import TOO_FEW, is_enough
from lesion_exp.evaluation.paired_randomization import exchanged_differences, family_p, randomization_p
from lesion_exp.evaluation.paired_tests import PairedDraws, PairedTests, holm, lesions_to_change, paired_draws
from lesion_exp.evaluation.pairing import Pooled, pooled
from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.evaluation.registry import AUROC_MACRO, METRICS, shown_in

SIGNIFICANT: Final = 0.05
"""Corrected p-values below this are called a difference."""
OVERALL: Final = shown_in("compare")
BY_CLASS: Final = ("recall", "precision", "f1", "auroc")
MCNEMAR: Final = "McNemar"
DELONG: Final = "DeLong"
PERMUTATION: Final = "permuted"
SEEDS: Final = "seeds"
PRIMARY: Final = "accuracy"
"""The metric of the verdict; all others are one family of tests."""
FAMILIES: Final = 2
"""Accuracy and all other metrics share the 5% equally, so each p-value is multiplied by 2 (Bonferroni's method)."""


@dataclass(frozen=True)
class Group:
    """A job with its runs, which differ in their seed alone."""

    letter: str
    runs: tuple[int, ...]
    """Positions of the runs' tables."""
    values: dict[str, Pooled]
    """The mean of each metric over the runs, with its 95% interval."""
    by_run: dict[str, list[float]]

    def deviation(self, name: str) -> float | None:
        """Standard deviation of a metric over the runs; None for a single run."""
        return float(np.std(self.by_run[name], ddof=1)) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Difference:
    """A metric of one job less that of another."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float | None
    """Of `test`; None where the metric rests on too few lesions to be tested."""
    test: str
    lesions: int
    """On which the metric rests."""
    p_corrected: float | None = None
    """`p` corrected for the number of pairs and of families, and for all metrics but accuracy for their number, too."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value calls it a difference."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANT


@dataclass(frozen=True)
class Pair:
    """Two jobs, the second subtracted from the first."""

    first: str
    second: str
    differences: dict[str, Difference]
    """By metric, as `metrics` names them."""
    only_first: int | None
    """Images that only the first reads right; None where runs are pooled."""
    only_second: int | None
    to_change: int | None
    """Lesions on which the one ahead would have to answer otherwise for the verdict on accuracy to turn; where runs
    are pooled, in each of its runs. None where no such change turns it, and where too few lesions were compared."""


@dataclass(frozen=True)
class Comparison:
    """Jobs on the same images."""

    num_images: int
    num_lesions: int
    class_images: dict[str, int]
    """Of each class, and for several diagnoses of `malignant`, their malignant view."""
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]


def compared(
    tables: Sequence[pd.DataFrame],
    groups: Mapping[str, Sequence[int]],
    pairs: Sequence[tuple[str, str]],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """The comparison of `pairs` of groups of runs.

    Intervals of single runs are those of `limits`, paired, and of a paired bootstrap over lesions for what has no
    largest value. Single runs are tested by McNemar's exact test (accuracy and the recall of a class), DeLong's
    (AUROC), both by lesion, and by exchanging answers at random (all else, see `paired_randomization`). Where a group
    holds several seeds, interval and test are those of `seed_pooling`. What rests on fewer than 20 lesions is not
    tested.

    Accuracy is the primary question: its p-values are corrected by Holm's method for the number of pairs. All other
    metrics are one family, whose p-values are corrected for their number (Westfall and Young's method for single runs,
    Holm's for pooled ones) and, by Bonferroni's method, for the number of pairs. Both are multiplied by 2, because
    accuracy and the family share the 5%. In simulations of equally good models with 5 to 30 lesions of the rarest class
    (`scripts/false_differences.py`, docs/statistics.md), a difference in any metric at all is declared in at most 5% of
    comparisons.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        groups: by letter, the positions of the tables of each job.
        pairs: letters of the groups that are compared.
        draws: number of bootstrap draws.
        seed: seed of the draws.
    """
    tests = PairedTests(tables)
    known = [*OVERALL, *(f"{family}/{name}" for family in BY_CLASS for name in tests.classes)]
    drawn = paired_draws(tables, known, draws, seed)
    names = [name for name in known if not np.isnan(drawn.estimates[name]).any()]
    runs = [(groups[one], groups[two]) for one, two in pairs]
    found = []
    for both in runs:
        tested = [name for name in names if is_enough(tests.counts.of(name))]
        exchanged = _exchanged(tables, both, tested, draws, seed)
        differences = {name: _difference(name, *both, drawn, tests, exchanged) for name in names}
        found.append(_corrected_in_pair(differences, exchanged, len(pairs)))
    corrected = _corrected_over_pairs(found)
    return Comparison(
        len(tables[0]),
        tests.num_lesions,
        {name: int(np.count_nonzero(found.positive)) for name, found in tests.classes.items()},
        tuple(_group(letter, group, names, drawn, tests.num_lesions) for letter, group in groups.items()),
        tuple(
            _pair(pairs[number], corrected[number], runs[number], drawn, tests, _verdict_of(number, corrected))
            for number in range(len(pairs))
        ),
    )


def _group(letter: str, runs: Sequence[int], names: Sequence[str], drawn: PairedDraws, num_lesions: int) -> Group:
    values = {name: _bounded(name, drawn, [runs], num_lesions) for name in names}
    by_run = {name: [float(drawn.estimates[name][run]) for run in runs] for name in names}
    return Group(letter, tuple(runs), values, by_run)


def _bounded(name: str, drawn: PairedDraws, groups: Sequence[Sequence[int]], num_lesions: int) -> Pooled:
    """The value with its interval: of single runs that of `limits` where there is one; of pooled runs that of
    `seed_pooling`, ending where the metric, or the difference of two, does."""
    result = pooled(drawn.estimates[name], drawn.draws[name], groups, num_lesions)
    limits = drawn.limits(name, [group[0] for group in groups]) if result.error is None else None
    if limits is not None:
        return replace(result, low=limits.low, high=limits.high)
    entry = METRICS.get(name)
    lowest, highest = (0.0, 1.0) if entry is None else (entry.lowest, entry.highest)
    if len(groups) > 1:
        lowest, highest = lowest - highest, highest - lowest
    return replace(result, low=max(result.low, lowest), high=min(result.high, highest))


def _exchanged(
    tables: Sequence[pd.DataFrame], both: Sequence[Sequence[int]], names: Collection[str], draws: int, seed: int
) -> dict[str, FloatArray]:
    """The differences that chance gives, by metric; nothing for pooled runs, whose test counts their seeds."""
    if max(map(len, both)) > 1 or not names:
        return {}
    first, second = (tables[runs[0]] for runs in both)
    return exchanged_differences(first, second, names, draws, seed)


def _difference(
    name: str,
    first: Sequence[int],
    second: Sequence[int],
    drawn: PairedDraws,
    tests: PairedTests,
    exchanged: Mapping[str, FloatArray],
) -> Difference:
    estimates = drawn.estimates[name]
    result = _bounded(name, drawn, [first, second], tests.num_lesions)
    means = float(estimates[list(first)].mean()), float(estimates[list(second)].mean())
    lesions = tests.counts.of(name)

    def tested(p_value: float | None, test: str) -> Difference:
        return Difference(*means, result.value, result.low, result.high, p_value, test, lesions)

    if not is_enough(lesions):
        return tested(None, TOO_FEW)
    if result.error is not None:
        return tested(result.p_of(result.value), SEEDS)
    one, two = first[0], second[0]
    family, _, class_name = name.partition("/")
    if family in {PRIMARY, "recall"}:
        return tested(tests.mcnemar(one, two, class_name or None), MCNEMAR)
    if family in {"auroc", AUROC_MACRO} and tests.has_large_classes(class_name or None):
        p = tests.delong(one, two, class_name or None, result.value)
        if p is not None:
            return tested(p, DELONG)
    return tested(randomization_p(result.value, exchanged[name]), PERMUTATION)


def _corrected_in_pair(
    differences: Mapping[str, Difference], exchanged: Mapping[str, FloatArray], num_pairs: int
) -> dict[str, Difference]:
    """The differences, with the p-values of all metrics but accuracy corrected for their number and the pairs'."""
    family = {name: found for name, found in differences.items() if name != PRIMARY and found.p is not None}
    if exchanged:
        corrected = family_p({name: found.difference for name, found in family.items()}, exchanged)
    else:
        adjusted = holm([found.p for found in family.values()])
        corrected = {name: p_value for name, p_value in zip(family, adjusted, strict=True) if p_value is not None}
    return {
        name: replace(found, p_corrected=min(1.0, FAMILIES * num_pairs * corrected[name]))
        if name in corrected
        else found
        for name, found in differences.items()
    }


def _corrected_over_pairs(found: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The differences of each pair with the p-values of accuracy corrected for the number of pairs and of families."""
    p_values = _corrected_accuracy([differences[PRIMARY].p for differences in found])
    return [
        {**differences, PRIMARY: replace(differences[PRIMARY], p_corrected=p_value)}
        for differences, p_value in zip(found, p_values, strict=True)
    ]


def _corrected_accuracy(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values of accuracy, one a pair, corrected for the number of pairs and of families."""
    return [None if value is None else min(1.0, FAMILIES * value) for value in holm(p_values)]


def _verdict_of(number: int, corrected: Sequence[Mapping[str, Difference]]) -> Callable[[float], bool]:
    """Whether a pair would be called different in accuracy if its p-value were another and those of the rest stayed."""
    p_values = [differences[PRIMARY].p for differences in corrected]

    def is_significant(p_value: float) -> bool:
        adjusted = _corrected_accuracy([*p_values[:number], p_value, *p_values[number + 1 :]])[number]
        return adjusted is not None and adjusted < SIGNIFICANT

    return is_significant


def _pair(
    letters: tuple[str, str],
    differences: dict[str, Difference],
    runs: tuple[Sequence[int], Sequence[int]],
    drawn: PairedDraws,
    tests: PairedTests,
    is_significant: Callable[[float], bool],
) -> Pair:
    is_tested = differences[PRIMARY].p is not None
    if max(map(len, runs)) > 1:
        if not is_tested:
            return Pair(*letters, differences, None, None, None)
        result = pooled(drawn.estimates["accuracy"], drawn.draws["accuracy"], runs, tests.num_lesions)
        return Pair(*letters, differences, None, None, _mean_to_change(result, tests.num_lesions, is_significant))
    first, second = tests.right[runs[0][0]], tests.right[runs[1][0]]
    to_change = lesions_to_change(first, second, tests.lesion, tests.num_lesions, is_significant) if is_tested else None
    only = int(np.count_nonzero(first > second)), int(np.count_nonzero(first < second))
    return Pair(*letters, differences, *only, to_change)


def _mean_to_change(result: Pooled, num_lesions: int, is_significant: Callable[[float], bool]) -> int | None:
    """Of pooled runs: lesions of average size by which the mean accuracy ahead has to move, its error staying."""

    def verdict(value: float) -> bool:
        p_value = result.p_of(value)
        assert p_value is not None, "pooled runs have a standard error"
        return is_significant(p_value)

    ahead = abs(result.value)
    before = verdict(ahead)
    step = -1 / num_lesions if before else 1 / num_lesions
    changes = (number for number in range(1, num_lesions + 1) if verdict(max(ahead + number * step, 0)) != before)
    return next(changes, None)
