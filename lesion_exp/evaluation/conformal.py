"""Conformal prediction sets: as many classes for an image as it takes to hold the true one at a promised rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd

from lesion_exp.choices import CONFORMAL
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.limits import proportion_limits
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray, classes_of, probabilities, true_classes
from lesion_exp.evaluation.weighted import LimitsOf, Weighted


@dataclass(frozen=True)
class ConformalSets:
    """Which classes belong to the set of an image: those whose score is at most `threshold`.

    - `lac` (least ambiguous classifier): score 1 - p_c; the smallest sets on average, empty ones too (Sadinle et al.
      2019, doi:10.1080/01621459.2017.1395341);
    - `aps` (adaptive): score the sum of the probabilities larger than p_c, so that classes of equal probability are in
      the set together or not at all; larger sets for hard images, never empty (Romano et al. 2020, arXiv:2006.02544,
      with 0 for its random number, so that an image always has the same set).

    The threshold makes the true class of an image of a new lesion belong to its set with a probability of at least
    1 - `alpha`, on average over lesions like those of the validation part, whatever the network: it is the quantile of
    the true classes' scores, each lesion weighing as one and a further one counting as the largest possible (Lee et al.
    2023, arXiv:2306.06342; with one image a lesion this is split conformal prediction).
    """

    METHODS: ClassVar[tuple[str, ...]] = CONFORMAL
    method: str
    alpha: float
    threshold: float
    """Infinite where there are too few lesions for the promise: then every set holds all classes."""
    classes: tuple[str, ...]
    lesions: int

    def sets(self, probs: FloatArray) -> BoolArray:
        """Whether each class belongs to the set of each image, bool (N, C)."""
        members: BoolArray = _scores(self.method, probs) <= self.threshold + _ROUNDING
        return members

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; an infinite threshold is null."""
        return {
            "method": self.method,
            "alpha": self.alpha,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "classes": list(self.classes),
            "fitted_on": {"part": "val", "lesions": self.lesions},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ConformalSets:
        """What `to_dict` gave."""
        threshold = np.inf if content["threshold"] is None else float(content["threshold"])
        return cls(
            content["method"],
            float(content["alpha"]),
            threshold,
            tuple(content["classes"]),
            int(content["fitted_on"]["lesions"]),
        )


_ROUNDING: Final = 1e-9


def fit_conformal(table: pd.DataFrame, method: str = "lac", alpha: float = 0.1) -> ConformalSets:
    """The sets whose threshold comes from the predictions of a validation part.

    Args:
        table: predictions table of images that the network was not trained on.
        method: lac or aps.
        alpha: the share of lesions whose true class may be missing, between 0 and 1.

    Raises:
        ConfigError: unknown method, or alpha out of range.
    """
    check_choice("the method of conformal sets", method, ConformalSets.METHODS)
    if not 0 < alpha < 1:
        raise ConfigError(f"expected evaluation.conformal_alpha between 0 and 1, got {alpha}; 0.1 is usual")
    scores = _scores(method, probabilities(table))[np.arange(len(table)), true_classes(table)]
    lesion, num_lesions = lesion_of(table)
    weights = 1 / np.bincount(lesion, minlength=num_lesions)[lesion] / (num_lesions + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) >= 1 - alpha - _ROUNDING
    threshold = float(scores[order][int(np.argmax(reached))]) if reached.any() else float("inf")
    return ConformalSets(method, alpha, threshold, classes_of(table), num_lesions)


def conformal_metrics(table: pd.DataFrame, fitted: ConformalSets, group: IntArray, num_groups: int) -> Weighted:
    """What the sets come to on `table`, as a function of the weights of groups of images.

    `coverage`: share of images whose set holds the true class; `coverage/<class>`: of those of a class, for which
    nothing is promised; `set_size`: mean number of classes in a set; `singletons`: share of sets of one class.
    """
    members, true = fitted.sets(probabilities(table)), true_classes(table)
    covered = members[np.arange(len(true)), true].astype(np.float64)
    size = members.sum(axis=1).astype(np.float64)

    def summed(values: FloatArray) -> FloatArray:
        return np.bincount(group, values, minlength=num_groups).astype(np.float64)

    ones = np.ones(len(true))
    rows = [summed(values) for values in (ones, covered, size, (size == 1).astype(np.float64))]
    for position in range(len(fitted.classes)):
        rows += [summed((true == position) * values) for values in (ones, covered)]
    sums = np.stack(rows)

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        total, num_covered, sizes, singletons, *by_class = sums @ weights
        values = {"coverage": num_covered / total, "set_size": sizes / total, "singletons": singletons / total}
        for name, whole, part in zip(fitted.classes, by_class[::2], by_class[1::2], strict=True):
            values[f"coverage/{name}"] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
        return values

    shares = {"coverage": (1, 0), "singletons": (3, 0)}
    shares |= {f"coverage/{name}": (5 + 2 * place, 4 + 2 * place) for place, name in enumerate(fitted.classes)}
    limits: dict[str, LimitsOf] = {
        name: partial(proportion_limits, sums[part], sums[whole]) for name, (part, whole) in shares.items()
    }
    return Weighted(at, limits)


def _scores(method: str, probs: FloatArray) -> FloatArray:
    """float64 (N, C); the smaller, the likelier the class."""
    if method == "lac":
        return 1 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    falling = np.take_along_axis(probs, order, axis=1)
    larger = np.cumsum(falling, axis=1) - falling
    for place in range(1, falling.shape[1]):  # classes of equal probability have the score of the first of them
        equal = falling[:, place] == falling[:, place - 1]
        larger[equal, place] = larger[equal, place - 1]
    scores = np.empty_like(falling)
    np.put_along_axis(scores, order, larger, axis=1)
    return scores
