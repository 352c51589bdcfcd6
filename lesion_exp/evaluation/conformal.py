"""Conformal prediction sets, which contain the true class of an image with a chosen probability."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd

from lesion_exp.choices import CONFORMAL
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.limits import proportion_limits
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray, classes_of, probabilities, true_classes
from lesion_exp.evaluation.weighted import LimitsOf, Weighted


@dataclass(frozen=True)
class ConformalSets:
    """A fitted method. The set of an image contains the classes whose score is at most `threshold`.

    - `lac` (least ambiguous classifier): the score is 1 - p_c. The sets are the smallest on average, and may be empty
      (Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341);
    - `aps` (adaptive): the score is the sum of the probabilities larger than p_c, so that a set contains either all
      classes of equal probability or none of them. Sets are larger for hard images and never empty (Romano et al. 2020,
      arXiv:2006.02544, with 0 for its random number, so that an image always has the same set).

    The true class of an image of a new lesion belongs to its set with a probability of at least 1 - `alpha`, on average
    over lesions like those of the validation part, for any network. The threshold is the quantile of the scores of the
    true classes, where each lesion has the weight 1 and one further lesion has the largest possible score (Lee et al.
    2023, arXiv:2306.06342; with one image for each lesion this is split conformal prediction).
    """

    METHODS: ClassVar[tuple[str, ...]] = CONFORMAL
    method: str
    alpha: float
    threshold: float
    """Infinite if there are too few lesions to guarantee the coverage; every set then contains all classes."""
    classes: tuple[str, ...]
    lesions: int

    def sets(self, probs: FloatArray) -> BoolArray:
        """Returns whether the set of each image contains each class, bool (N, C)."""
        contained: BoolArray = _scores(self.method, probs) <= self.threshold + _ROUNDING
        return contained

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON; an infinite threshold is null."""
        return {
            "method": self.method,
            "alpha": self.alpha,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "classes": list(self.classes),
            "fitted_on": {"part": "val", "lesions": self.lesions},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ConformalSets:
        """Restores the values of `to_dict`.

        Raises:
            DataError: a value is missing or of another kind.
        """
        try:
            check_choice("the method of conformal sets", content["method"], cls.METHODS)
            threshold = np.inf if content["threshold"] is None else float(content["threshold"])
            return cls(
                content["method"],
                float(content["alpha"]),
                threshold,
                tuple(content["classes"]),
                int(content["fitted_on"]["lesions"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected conformal sets with the values that a run stores (such as conformal/lac.json), got other "
                f"values ({error!r}); use a run of this version, or train again: lesion-exp reproduce run=RUN"
            ) from error


_ROUNDING: Final = 1e-9


def fit_conformal(table: pd.DataFrame, method: str = "lac", alpha: float = 0.1) -> ConformalSets:
    """Fits the threshold to the predictions of a validation part.

    Args:
        table: predictions table of images that the network was not trained on.
        method: lac or aps.
        alpha: the share of lesions whose set may lack the true class, between 0 and 1.

    Raises:
        ConfigError: the method is unknown, or alpha is out of range.
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
    """Returns the metrics of the sets on `table` as a function of the weights of groups of images.

    - `coverage`: the share of images whose set contains the true class;
    - `coverage/<class>`: the same for the images of a class, for which nothing is guaranteed;
    - `set_size`: the mean number of classes in a set;
    - `singletons`: the share of sets of one class.
    """
    contained, true = fitted.sets(probabilities(table)), true_classes(table)
    covered = contained[np.arange(len(true)), true].astype(np.float64)
    size = contained.sum(axis=1).astype(np.float64)

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
    """Returns the score of each class of each image, float64 (N, C); likelier classes have smaller scores."""
    if method == "lac":
        return 1 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    falling = np.take_along_axis(probs, order, axis=1)
    larger = np.cumsum(falling, axis=1) - falling
    for place in range(1, falling.shape[1]):  # classes of equal probability get the same score
        equal = falling[:, place] == falling[:, place - 1]
        larger[equal, place] = larger[equal, place - 1]
    scores = np.empty_like(falling)
    np.put_along_axis(scores, order, larger, axis=1)
    return scores
