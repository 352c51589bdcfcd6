"""Metrics as functions of the weights of groups of images, so that the same code computes estimates and bootstraps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lesion_exp.evaluation.limits import Limits, combined_limits, proportion_limits
from lesion_exp.evaluation.predictions import FloatArray, IntArray

LimitsOf = Callable[[], Limits]
Score = Callable[[FloatArray, IntArray], float]
"""A metric as a function of probabilities, float (N, C), and true classes, int (N,); NaN where it is undefined."""


@dataclass(frozen=True)
class Bounds:
    """The arguments of `bounded_limits` for a metric whose interval comes from bootstrap draws."""

    lesions: int
    """The number of lesions on which the metric rests."""
    highest: float = 1.0
    """The largest possible value of the metric."""
    lowest: float = 0.0
    """The smallest possible value of the metric."""


@dataclass(frozen=True)
class Weighted:
    """Metrics as a function of the weights of G groups of images in D draws.

    The function takes the weights, float64 (G, D), and returns each metric by name, float64 (D,), NaN where it is
    undefined.
    """

    at: Callable[[FloatArray], dict[str, FloatArray]]
    limits: Mapping[str, LimitsOf] = field(default_factory=dict)
    """The 95% limits of the metrics that have analytical ones."""
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """For the metrics whose intervals come from `bounded_limits`; the others have percentile intervals."""
    without_limits: Weighted | None = None
    """A function for at least the metrics without `limits`, if it takes less time than the one for all; else None."""

    def drawn(self) -> Weighted:
        """Returns at least the metrics without `limits`, which are those that bootstrap draws are needed for."""
        return self if self.without_limits is None else self.without_limits

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Returns the metrics for `weights`, float64 (G, D)."""
        return self.at(weights)

    def renamed(self, names: Mapping[str, str]) -> Weighted:
        """Returns only the metrics in `names`, which maps their names to new ones."""

        def at(weights: FloatArray) -> dict[str, FloatArray]:
            values = self.at(weights)
            return {new: values[old] for old, new in names.items()}

        limits = {new: self.limits[old] for old, new in names.items() if old in self.limits}
        bounds = {new: self.bounds[old] for old, new in names.items() if old in self.bounds}
        rest = {old: new for old, new in names.items() if old not in self.limits}
        whole = len(rest) == len(names) and self.without_limits is None
        return Weighted(at, limits, bounds, None if whole else self.drawn().renamed(rest) if rest else NOTHING)

    def only(self, names: Iterable[str]) -> Weighted:
        """Returns only the metrics in `names`, in their order."""
        return self.renamed({name: name for name in names})


NOTHING: Final = Weighted(lambda _: {})
"""No metrics."""


def merged(parts: Iterable[tuple[str, Weighted]]) -> Weighted:
    """Returns the metrics of all `parts` together, with the prefix of their part before each name."""
    known = list(parts)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        return {f"{prefix}{name}": value for prefix, part in known for name, value in part(weights).items()}

    limits = {f"{prefix}{name}": found for prefix, part in known for name, found in part.limits.items()}
    bounds = {f"{prefix}{name}": found for prefix, part in known for name, found in part.bounds.items()}
    drawn = [(prefix, part.drawn()) for prefix, part in known]
    whole = all(part.without_limits is None for _, part in known)
    return Weighted(at, limits, bounds, None if whole else merged(drawn))


def mean_of(columns: Mapping[str, npt.NDArray[Any]], group: IntArray, num_groups: int) -> Weighted:
    """Returns the mean of each column over the images whose value is not NaN.

    Args:
        columns: float or bool (N,), values between 0 and 1, by the name of the mean.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
    """
    sums: dict[str, tuple[FloatArray, FloatArray]] = {}
    for name, column in columns.items():
        values = column.astype(np.float64)
        has = ~np.isnan(values)
        part = np.bincount(group[has], values[has], minlength=num_groups).astype(np.float64)
        sums[name] = part, np.bincount(group[has], minlength=num_groups).astype(np.float64)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        found = {}
        for name, (part, whole) in sums.items():
            below = whole @ weights
            found[name] = np.divide(part @ weights, below, out=np.full_like(below, np.nan), where=below > 0)
        return found

    limits = {name: partial(proportion_limits, *pair) for name, pair in sums.items()}
    return Weighted(at, limits, without_limits=NOTHING)


def difference(first: Weighted, second: Weighted) -> Weighted:
    """Returns the metrics of `first` minus those of `second`, which have the same names and groups of images."""

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        one, two = first(weights), second(weights)
        return {name: one[name] - two[name] for name in one}

    def limits(name: str) -> Limits:
        return combined_limits((1.0, -1.0), [first.limits[name](), second.limits[name]()])

    return Weighted(at, {name: partial(limits, name) for name in first.limits if name in second.limits})


def resampled(scores: Mapping[str, Score], probs: FloatArray, true: IntArray, group: IntArray) -> Weighted:
    """Returns metrics of which only a function of images is known, such as those of torchmetrics, by their names.

    They are computed anew for each draw, in which each image occurs as often as its group, so that weights must be
    whole numbers. A draw takes as long as the metric itself. The intervals are those of the bootstrap.

    Args:
        scores: the functions, by the names of the metrics.
        probs: float (N, C), probabilities.
        true: int (N,), true classes.
        group: int (N,), the group of each image.
    """

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        found = {name: np.full(weights.shape[1], np.nan) for name in scores}
        for draw, counts in enumerate(weights.T.astype(np.int64)):
            rows = np.repeat(np.arange(len(true)), counts[group])
            for name, score in scores.items() if len(rows) else ():
                found[name][draw] = score(probs[rows], true[rows])
        return found

    return Weighted(at)


def defined(metrics: Weighted, num_groups: int) -> dict[str, float]:
    """Returns the values of the metrics for the images themselves, without those that are undefined."""
    values = metrics(np.ones((num_groups, 1)))
    return {name: float(value[0]) for name, value in values.items() if not np.isnan(value[0])}
