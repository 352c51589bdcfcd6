"""The comparison of jobs on the same images: the difference in each metric, with its interval and its test."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.lesion_counts import TOO_FEW, is_enough
from lesion_exp.evaluation.paired_randomization import exchanged_differences, family_p, randomization_p
from lesion_exp.evaluation.paired_tests import PairedDraws, PairedTests, holm, lesions_to_change, paired_draws
from lesion_exp.evaluation.pairing import Pooled, pooled, with_shared_units
from lesion_exp.evaluation.predictions import FloatArray
from lesion_exp.evaluation.registry import AUROC_MACRO, entry_of, is_lower_better, shown_in
from lesion_exp.evaluation.weighted import Score

SIGNIFICANT: Final = 0.05
"""A difference with a smaller corrected p-value is called significant."""
OVERALL: Final = shown_in("compare")
BY_CLASS: Final = ("recall", "precision", "f1", "auroc")
MCNEMAR: Final = "McNemar"
DELONG: Final = "DeLong"
PERMUTATION: Final = "permuted"
SEEDS: Final = "seeds"
PRIMARY: Final = "accuracy"
"""The primary metric of a comparison; all other metrics are one family of tests."""
FAMILIES: Final = 2
"""Accuracy and the family of all other metrics share the level of 5% equally, so each p-value is multiplied by 2
(Bonferroni's method)."""


@dataclass(frozen=True)
class Group:
    """A job with its runs, which differ only in their seed."""

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
    """The difference between a metric of one job and that of another."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float | None
    """The p-value of `test`; None if the metric rests on too few lesions to be tested."""
    test: str
    """The name of the test, or `TOO_FEW`."""
    lesions: int
    """The number of lesions on which the metric rests."""
    p_corrected: float | None = None
    """`p` corrected for the number of pairs and of families; for metrics other than accuracy also for their number."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below `SIGNIFICANT`."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANT


@dataclass(frozen=True)
class Pair:
    """Two jobs and their differences, first minus second."""

    first: str
    second: str
    differences: dict[str, Difference]
    """By the name of the metric."""
    only_first: int | None
    """The number of images that only the first job predicts correctly; None where runs are pooled."""
    only_second: int | None
    to_change: int | None
    """The number of lesions whose predictions by the more accurate job would have to change for the significance of the
    difference in accuracy to change; where runs are pooled, in each of its runs. None if no such number exists, and
    where too few lesions were compared."""


@dataclass(frozen=True)
class AddedMetric:
    """A metric that a config adds."""

    score: Score
    higher_is_better: bool | None
    """None if its class does not say."""


@dataclass(frozen=True)
class Comparison:
    """Jobs on the same images."""

    num_images: int
    num_lesions: int
    class_images: dict[str, int]
    """The images of each class; for several diagnoses also those of `malignant` (see `malignant_view`)."""
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    added: Mapping[str, bool | None] = field(default_factory=dict)
    """The metrics that configs add, and whether higher values of each are better; None if that is not known."""
    lesions: Mapping[str, int] = field(default_factory=dict)
    """The number of lesions on which each metric rests."""
    unit: Unit = "lesion"
    """What intervals and tests take together. If it is `patient`, all numbers of lesions here are those of patients."""

    def counted(self, number: int) -> str:
        """Returns `1 lesion`, `30 lesions` or `30 patients`."""
        return f"{number:,} {self.unit}{'' if number == 1 else 's'}"

    def overall(self) -> list[str]:
        """Returns the names of the metrics of all classes together that were compared, those that configs add last."""
        return [name for name in (*OVERALL, *self.added) if all(name in pair.differences for pair in self.pairs)]

    def too_few(self, name: str) -> str:
        """Returns `too few (n=3)` if the metric rests on too few lesions (see `is_enough`), else an empty text."""
        lesions = self.lesions.get(name)
        return "" if lesions is None or is_enough(lesions) else f"{TOO_FEW} (n={lesions})"

    def is_lower_better(self, name: str) -> bool:
        """Returns whether lower values of the metric `name` are better."""
        return self.added[name] is False if name in self.added else is_lower_better(name)


def compared(
    tables: Sequence[pd.DataFrame],
    groups: Mapping[str, Sequence[int]],
    pairs: Sequence[tuple[str, str]],
    *,
    draws: int = 2000,
    seed: int = 0,
    added: Mapping[str, AddedMetric] | None = None,
    unit: Unit = "lesion",
) -> Comparison:
    """Compares `pairs` of groups of runs.

    The intervals of single runs are the paired ones of `limits`; differences of areas, and metrics without a largest
    value, have intervals from a paired bootstrap over lesions. Single runs are tested with McNemar's exact test
    (accuracy and the recall of a class) and DeLong's test (AUROC), both by lesion, and with a randomization test (all
    other metrics, see `paired_randomization`). If a group has several seeds, interval and test are those of
    `pairing.pooled`. Metrics that rest on fewer than 20 lesions are not tested.

    Accuracy is the primary metric: its p-values are corrected for the number of pairs by Holm's method. All other
    metrics are one family, whose p-values are corrected for their number (by Westfall and Young's method for single
    runs, by Holm's for pooled ones) and for the number of pairs (by Bonferroni's). Both are multiplied by 2, because
    accuracy and the family share the level of 5%. In simulations of equally good models with 5 to 30 lesions of the
    rarest class (`scripts/false_differences.py`, docs/statistics.md), at most 5% of the comparisons show a significant
    difference in any metric.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        groups: the positions of the tables of each job, by its letter.
        pairs: the letters of the groups to compare.
        draws: number of bootstrap draws.
        seed: seed of the draws.
        added: further metrics by name. They have paired bootstrap intervals, and are of the family of other metrics.
        unit: what intervals and tests take together: the images of a lesion, or those of a patient. A table that names
            no patients has those of the others.

    Raises:
        ConfigError: the unit is patients, and no table names any.
    """
    added = added or {}
    tables = with_shared_units(tables, unit)
    scores = {name: metric.score for name, metric in added.items()}
    tests = PairedTests(tables)
    known = [*OVERALL, *(f"{family}/{name}" for family in BY_CLASS for name in tests.classes), *added]
    drawn = paired_draws(tables, known, draws, seed, scores)
    names = [name for name in known if name in drawn.estimates and not np.isnan(drawn.estimates[name]).any()]
    runs = [(groups[one], groups[two]) for one, two in pairs]
    found = []
    for both in runs:
        tested = [name for name in names if is_enough(tests.counts.of(name))]
        exchanged = _exchanged(tables, both, tested, draws, seed, scores)
        differences = {name: _difference(name, *both, drawn, tests, exchanged) for name in names}
        found.append(_corrected_in_pair(differences, exchanged, len(pairs)))
    corrected = _corrected_over_pairs(found)
    return Comparison(
        len(tables[0]),
        tests.num_lesions,
        {name: int(np.count_nonzero(found.positive)) for name, found in tests.classes.items()},
        tuple(_group(letter, group, names, drawn, tests.num_lesions) for letter, group in groups.items()),
        tuple(
            _pair(pairs[number], corrected[number], runs[number], drawn, tests, _significance_of(number, corrected))
            for number in range(len(pairs))
        ),
        {name: metric.higher_is_better for name, metric in added.items()},
        {name: tests.counts.of(name) for name in names},
        unit,
    )


def _group(letter: str, runs: Sequence[int], names: Sequence[str], drawn: PairedDraws, num_lesions: int) -> Group:
    values = {name: _bounded(name, drawn, [runs], num_lesions) for name in names}
    by_run = {name: [float(drawn.estimates[name][run]) for run in runs] for name in names}
    return Group(letter, tuple(runs), values, by_run)


def _bounded(name: str, drawn: PairedDraws, groups: Sequence[Sequence[int]], num_lesions: int) -> Pooled:
    """Returns the value of a group, or the difference of two, with its interval, cut off at the smallest and largest
    possible values. Single runs have the interval of `limits` where there is one, pooled runs that of `pooled`."""
    result = pooled(drawn.estimates[name], drawn.draws[name], groups, num_lesions)
    limits = drawn.limits(name, [group[0] for group in groups]) if result.error is None else None
    if limits is not None:
        return replace(result, low=limits.low, high=limits.high)
    entry = entry_of(name)
    lowest, highest = (-math.inf, math.inf) if entry is None else (entry.lowest, entry.highest)
    if len(groups) > 1:
        lowest, highest = lowest - highest, highest - lowest
    return replace(result, low=max(result.low, lowest), high=min(result.high, highest))


def _exchanged(
    tables: Sequence[pd.DataFrame],
    both: Sequence[Sequence[int]],
    names: Collection[str],
    draws: int,
    seed: int,
    added: Mapping[str, Score],
) -> dict[str, FloatArray]:
    """Returns the differences under random exchange, by metric; empty for pooled runs, which have another test."""
    if max(map(len, both)) > 1 or not names:
        return {}
    first, second = (tables[runs[0]] for runs in both)
    return exchanged_differences(first, second, names, draws, seed, added)


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
    """Returns the differences, with p-values corrected for the number of metrics and of pairs, except that of
    accuracy.
    """
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
    """Returns the differences of each pair, with p-values of accuracy corrected for the number of pairs and of
    families.
    """
    p_values = _corrected_accuracy([differences[PRIMARY].p for differences in found])
    return [
        {**differences, PRIMARY: replace(differences[PRIMARY], p_corrected=p_value)}
        for differences, p_value in zip(found, p_values, strict=True)
    ]


def _corrected_accuracy(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns the p-values of accuracy, one per pair, corrected for the number of pairs and of families."""
    return [None if value is None else min(1.0, FAMILIES * value) for value in holm(p_values)]


def _significance_of(number: int, corrected: Sequence[Mapping[str, Difference]]) -> Callable[[float], bool]:
    """Returns whether the difference in accuracy of a pair would be significant with another p-value, as a function of
    it.
    """
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
    """For pooled runs: the number of lesions of average size by which the larger mean accuracy has to change, with an
    unchanged standard error, for its significance to change."""

    def significant(value: float) -> bool:
        p_value = result.p_of(value)
        assert p_value is not None, "pooled runs have a standard error"
        return is_significant(p_value)

    ahead = abs(result.value)
    before = significant(ahead)
    step = -1 / num_lesions if before else 1 / num_lesions
    changes = (number for number in range(1, num_lesions + 1) if significant(max(ahead + number * step, 0)) != before)
    return next(changes, None)
