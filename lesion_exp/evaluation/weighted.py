"""Metrics as functions of the weights of groups of images, so that one piece of code serves estimates and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lesion_exp.evaluation.limits import Limits, combined_limits, proportion_limits
from lesion_exp.evaluation.predictions import FloatArray, IntArray

LimitsOf = Callable[[], Limits]


@dataclass(frozen=True)
class Bounds:
    """What the interval of a metric from its bootstrap draws must know; see `bounded_limits`."""

    lesions: int
    """Those that the metric rests on."""
    highest: float = 1.0
    """Its largest value."""
    lowest: float = 0.0
    """Its smallest value."""


@dataclass(frozen=True)
class Weighted:
    """Metrics by name. Calling it with the weights of the groups in each draw, float64 (G, D), gives every metric in
    each draw, float64 (D,), NaN where a draw does not determine it."""

    at: Callable[[FloatArray], dict[str, FloatArray]]
    limits: Mapping[str, LimitsOf] = field(default_factory=dict)
    """The 95% interval of a metric, where it follows from the images themselves."""
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """Of metrics whose interval comes from bootstrap draws and lies within bounds; of others it is the percentiles."""

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        """The metrics for `weights`."""
        return self.at(weights)

    def renamed(self, names: Mapping[str, str]) -> Weighted:
        """Only the metrics that are keys of `names`, by the names that are its values."""

        def at(weights: FloatArray) -> dict[str, FloatArray]:
            values = self.at(weights)
            return {new: values[old] for old, new in names.items()}

        limits = {new: self.limits[old] for old, new in names.items() if old in self.limits}
        return Weighted(at, limits, {new: self.bounds[old] for old, new in names.items() if old in self.bounds})

    def only(self, names: Iterable[str]) -> Weighted:
        """Only the metrics in `names`, in their order."""
        return self.renamed({name: name for name in names})


def merged(parts: Iterable[tuple[str, Weighted]]) -> Weighted:
    """The metrics of all `parts`, each with the text of its part before its name."""
    known = list(parts)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        return {f"{prefix}{name}": value for prefix, part in known for name, value in part(weights).items()}

    limits = {f"{prefix}{name}": found for prefix, part in known for name, found in part.limits.items()}
    bounds = {f"{prefix}{name}": found for prefix, part in known for name, found in part.bounds.items()}
    return Weighted(at, limits, bounds)


def mean_of(columns: Mapping[str, npt.NDArray[Any]], group: IntArray, num_groups: int) -> Weighted:
    """The mean of each column, values between 0 and 1 of N images, over the images that are not NaN.

    Args:
        columns: float or bool (N,), by the name of its mean.
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

    return Weighted(at, {name: partial(proportion_limits, *pair) for name, pair in sums.items()})


def difference(first: Weighted, second: Weighted) -> Weighted:
    """The metrics of `first` less those of `second`, which are the same metrics of the same groups of images."""

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        one, two = first(weights), second(weights)
        return {name: one[name] - two[name] for name in one}

    def limits(name: str) -> Limits:
        return combined_limits((1.0, -1.0), [first.limits[name](), second.limits[name]()])

    return Weighted(at, {name: partial(limits, name) for name in first.limits if name in second.limits})
