"""Jobs compared on the same images: every metric's difference, its interval and its test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.delong import PlacedArea, delong_p, placed_area
from lesion_exp.evaluation.holm import holm
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.mcnemar import lesions_to_change, mcnemar_p, surplus_of
from lesion_exp.evaluation.paired_bootstrap import PairedDraws, bootstrap_p, paired_draws
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of, predicted_classes, probabilities
from lesion_exp.evaluation.predictions import true_classes as true_classes_of
from lesion_exp.evaluation.seed_pooling import Pooled, pooled

SIGNIFICANT: Final = 0.05
"""Corrected p-values below this are called a difference."""
OVERALL: Final = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "brier", "nll", "ece")
BY_CLASS: Final = ("recall", "precision", "f1", "auroc")
LOWER_IS_BETTER: Final = frozenset({"brier", "nll", "ece"})
_HIGHEST: Final = {"brier": 2.0, "nll": math.inf}
"""Of all others it is 1; the lowest value of every metric is 0."""
MCNEMAR: Final = "McNemar"
DELONG: Final = "DeLong"
BOOTSTRAP: Final = "bootstrap"
SEEDS: Final = "seeds"


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
    """Of `test`; None where nothing can be tested."""
    test: str
    p_bootstrap: float | None = None
    """Of the paired bootstrap, which is what the interval belongs to; None for pooled runs."""
    p_holm: float | None = None
    """`p` corrected for the number of pairs, and for metrics of a class for the number of classes, too."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value calls it a difference."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


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
    are pooled, in each of its runs. None where no such change turns it."""


@dataclass(frozen=True)
class Comparison:
    """Jobs on the same images."""

    num_images: int
    num_lesions: int
    class_images: dict[str, int]
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

    Intervals come from a paired bootstrap over lesions. Single runs are tested by McNemar's exact test (accuracy and
    the recall of a class), DeLong's (AUROC), both by lesion, and the bootstrap (all else). Where a group holds several
    seeds, interval and test are those of `seed_pooling`. P-values are corrected by Holm's method for the number of
    pairs, those of a class's metric for pairs times classes.

    Args:
        tables: predictions tables with the same rows in the same order (see `pairing.aligned`).
        groups: by letter, the positions of the tables of each job.
        pairs: letters of the groups that are compared.
        draws: number of bootstrap draws.
        seed: seed of the draws.
    """
    table = tables[0]
    classes = classes_of(table)
    known = [*OVERALL, *(f"{family}/{name}" for family in BY_CLASS for name in classes)]
    drawn = paired_draws(tables, known, draws, seed)
    names = [name for name in known if not np.isnan(drawn.estimates[name]).any()]
    answers = _Answers(tables)
    runs = [(groups[one], groups[two]) for one, two in pairs]
    found = [{name: _difference(name, *both, drawn, answers) for name in names} for both in runs]
    corrected = _corrected(found, names)
    return Comparison(
        len(table),
        answers.num_lesions,
        {name: int(np.count_nonzero(answers.true == place)) for place, name in enumerate(classes)},
        tuple(_group(letter, group, names, drawn, answers.num_lesions) for letter, group in groups.items()),
        tuple(
            _pair(pairs[number], corrected[number], runs[number], drawn, answers, _verdict_of(number, corrected))
            for number in range(len(pairs))
        ),
    )


class _Answers:
    """What the tests look at: right answers and placed areas of each table."""

    def __init__(self, tables: Sequence[pd.DataFrame]) -> None:
        self.lesion, self.num_lesions = lesion_of(tables[0])
        self.true: IntArray = true_classes_of(tables[0])
        self.classes = classes_of(tables[0])
        self.right = [(predicted_classes(table) == self.true).astype(np.int64) for table in tables]
        probs = [probabilities(table) for table in tables]
        self.areas = {
            name: [placed_area(p[:, place], self.true == place, self.lesion, self.num_lesions) for p in probs]
            for place, name in enumerate(self.classes)
        }

    def mcnemar(self, one: int, two: int, class_name: str | None) -> float:
        """The p-value over all images, or over those of a class."""
        chosen = slice(None) if class_name is None else self.true == self.classes.index(class_name)
        first, second = self.right[one][chosen], self.right[two][chosen]
        return mcnemar_p(surplus_of(first, second, self.lesion[chosen], self.num_lesions))

    def delong(self, one: int, two: int, class_name: str | None, difference: float) -> float | None:
        """The p-value of the area of a class, or of the mean over the classes present."""
        names = [name for place, name in enumerate(self.classes) if (self.true == place).any()]
        influences: list[FloatArray] = []
        for name in names if class_name is None else [class_name]:
            first, second = self.areas[name][one], self.areas[name][two]
            if not isinstance(first, PlacedArea) or not isinstance(second, PlacedArea):
                return None
            influences.append(first.influence - second.influence)
        return delong_p(difference, np.mean(influences, axis=0))


def _group(letter: str, runs: Sequence[int], names: Sequence[str], drawn: PairedDraws, num_lesions: int) -> Group:
    values = {name: _bounded(name, drawn, [runs], num_lesions) for name in names}
    by_run = {name: [float(drawn.estimates[name][run]) for run in runs] for name in names}
    return Group(letter, tuple(runs), values, by_run)


def _bounded(name: str, drawn: PairedDraws, groups: Sequence[Sequence[int]], num_lesions: int) -> Pooled:
    """The pooled value, its interval ending where the metric, or the difference of two, does."""
    result = pooled(drawn.estimates[name], drawn.draws[name], groups, num_lesions)
    highest = _HIGHEST.get(name, 1.0)
    lowest = 0.0 if len(groups) == 1 else -highest
    return replace(result, low=max(result.low, lowest), high=min(result.high, highest))


def _difference(
    name: str, first: Sequence[int], second: Sequence[int], drawn: PairedDraws, answers: _Answers
) -> Difference:
    estimates, draws = drawn.estimates[name], drawn.draws[name]
    result = _bounded(name, drawn, [first, second], answers.num_lesions)
    means = float(estimates[list(first)].mean()), float(estimates[list(second)].mean())
    if result.error is not None:
        return Difference(*means, result.value, result.low, result.high, result.p_of(result.value), SEEDS)
    one, two = first[0], second[0]
    of_bootstrap = bootstrap_p(draws[one] - draws[two])
    family, _, class_name = name.partition("/")
    p, test = None, BOOTSTRAP
    if family in {"accuracy", "recall"}:
        p, test = answers.mcnemar(one, two, class_name or None), MCNEMAR
    elif family in {"auroc", "auroc_macro"}:
        p, test = answers.delong(one, two, class_name or None, result.value), DELONG
    if p is None:
        p, test = (None if math.isnan(of_bootstrap) else of_bootstrap), BOOTSTRAP
    return Difference(*means, result.value, result.low, result.high, p, test, of_bootstrap)


def _corrected(found: Sequence[Mapping[str, Difference]], names: Sequence[str]) -> list[dict[str, Difference]]:
    """The differences of each pair with Holm's p-values: one family of tests a metric, over pairs and classes."""
    adjusted: dict[tuple[int, str], float | None] = {}
    for family in dict.fromkeys(name.partition("/")[0] for name in names):
        of_family = [name for name in names if name.partition("/")[0] == family]
        members = [(number, name) for number in range(len(found)) for name in of_family]
        p_values = holm([found[number][name].p for number, name in members])
        adjusted.update(zip(members, p_values, strict=True))
    return [
        {name: replace(differences[name], p_holm=adjusted[number, name]) for name in names}
        for number, differences in enumerate(found)
    ]


def _verdict_of(number: int, corrected: Sequence[Mapping[str, Difference]]) -> Callable[[float], bool]:
    """Whether a pair would be called different in accuracy if its p-value were another and those of the rest stayed."""
    p_values = [differences["accuracy"].p for differences in corrected]

    def is_significant(p_value: float) -> bool:
        adjusted = holm([*p_values[:number], p_value, *p_values[number + 1 :]])[number]
        return adjusted is not None and adjusted < SIGNIFICANT

    return is_significant


def _pair(
    letters: tuple[str, str],
    differences: dict[str, Difference],
    runs: tuple[Sequence[int], Sequence[int]],
    drawn: PairedDraws,
    answers: _Answers,
    is_significant: Callable[[float], bool],
) -> Pair:
    if max(map(len, runs)) > 1:
        result = pooled(drawn.estimates["accuracy"], drawn.draws["accuracy"], runs, answers.num_lesions)
        return Pair(*letters, differences, None, None, _mean_to_change(result, answers.num_lesions, is_significant))
    first, second = answers.right[runs[0][0]], answers.right[runs[1][0]]
    to_change = lesions_to_change(first, second, answers.lesion, answers.num_lesions, is_significant)
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
