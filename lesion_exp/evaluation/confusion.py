"""Metrics of the confusion matrix: accuracy, recall, precision, specificity, F1 and their means over classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from lesion_exp.evaluation.limits import Limits, combined_limits, mean_limits, overlap_limits, proportion_limits
from lesion_exp.evaluation.predictions import FloatArray, IntArray
from lesion_exp.evaluation.registry import METRICS
from lesion_exp.evaluation.weighted import NOTHING, Bounds, LimitsOf, Weighted

OF_ALL_CLASSES: Final = ("accuracy", "balanced_accuracy", "f1_macro", "f1_macro_sklearn")
"""The metrics over all classes, of each part and, if the registry shows them there, of each epoch."""
FAMILIES: Final = ("recall", "precision", "specificity", "f1")
"""The metrics that each class has."""


def confusion_metrics(
    true: IntArray, predicted: IntArray, group: IntArray, num_groups: int, classes: Sequence[str]
) -> Weighted:
    """Returns the metrics of the confusion matrix as a function of the weights of groups of images.

    With t_c true, p_c predicted and h_c correctly predicted images of class c:

    - accuracy: sum h / N;
    - recall: h_c / t_c;
    - precision: h_c / p_c, 0 if p_c is 0;
    - F1: 2 h_c / (t_c + p_c);
    - specificity: the share of images of other classes that are not predicted as c;
    - `balanced_accuracy` and `f1_macro`: the means of recall and F1 over the classes with t_c > 0.

    For each class these are scikit-learn's definitions with `zero_division=0`, and `balanced_accuracy` is its
    `balanced_accuracy_score`. Its `f1_score(average="macro")` also counts, with an F1 of 0, classes without images that
    are predicted (t_c = 0, p_c > 0), so that it depends on which classes a part happens to lack; that mean is
    `f1_macro_sklearn`. The two means are equal if every predicted class has images.

    Args:
        true: int (N,), positions of the true classes.
        predicted: int (N,), positions of the predicted classes.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        classes: class names.
    """
    num_classes = len(classes)
    cells = true * num_classes + predicted
    counting = csr_array((np.ones(len(cells)), (cells, group)), shape=(num_classes**2, num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        counts = (counting @ weights).reshape(num_classes, num_classes, weights.shape[1])
        return metrics_of_counts(counts, classes)

    limits, lesions = _limits(counting, classes), int(np.count_nonzero(counting.sum(axis=0)))
    entries = [METRICS[name] for name in OF_ALL_CLASSES if name not in limits]
    bounds = {each.name: Bounds(lesions, each.highest, each.lowest) for each in entries}
    return Weighted(at, limits, bounds, None if bounds else NOTHING)


def _limits(counting: csr_array, classes: Sequence[str]) -> dict[str, LimitsOf]:
    """Returns the limits of each metric, from the images in each cell and group, `counting`, float64 (C * C, G)."""
    cells = np.arange(len(classes) ** 2).reshape(len(classes), len(classes))
    num_true = np.asarray(counting.sum(axis=1)).reshape(cells.shape).sum(axis=1)

    def images(chosen: IntArray) -> FloatArray:
        return np.asarray(counting[np.ravel(chosen)].sum(axis=0), dtype=np.float64)

    @cache
    def everything() -> FloatArray:
        return images(cells)

    @cache
    def counts_of(place: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        return images(cells[place, place]), images(cells[place]), images(cells[:, place])

    @cache
    def of_class(family: str, place: int) -> Limits:
        hits, true, predicted = counts_of(place)
        if family == "f1":
            return overlap_limits(hits, true + predicted - hits)
        if family == "specificity":
            return proportion_limits(everything() - true - predicted + hits, everything() - true)
        return (
            proportion_limits(hits, true) if family == "recall" else proportion_limits(hits, predicted, otherwise=0.0)
        )

    def mean_over_classes(family: str) -> Limits:
        return mean_limits([of_class(family, place) for place in np.flatnonzero(num_true).tolist()])

    def mean_f1_of_predicted() -> Limits:
        """Classes without images have an F1 of exactly 0, so they only change the number of classes."""
        either = num_true + np.asarray(counting.sum(axis=1)).reshape(cells.shape).sum(axis=0)
        parts = [of_class("f1", place) for place in np.flatnonzero(num_true).tolist()]
        return combined_limits([1 / np.count_nonzero(either)] * len(parts), parts)

    found: dict[str, LimitsOf] = {
        "accuracy": lambda: proportion_limits(images(np.diag(cells)), everything()),
        "balanced_accuracy": lambda: mean_over_classes("recall"),
        "f1_macro": lambda: mean_over_classes("f1"),
        "f1_macro_sklearn": mean_f1_of_predicted,
    }
    for family in FAMILIES:
        for place, name in enumerate(classes):
            found[f"{family}/{name}"] = partial(of_class, family, place)
    return found


def metrics_of_counts(counts: FloatArray, classes: Sequence[str]) -> dict[str, FloatArray]:
    """Returns every metric of `confusion_metrics`, float64 (D,) each, NaN where it is undefined.

    Args:
        counts: float64 (C true, C predicted, D), the number of images of each pair of true and predicted class.
        classes: class names.
    """
    hits = np.einsum("ccd->cd", counts)
    num_true, num_predicted = counts.sum(axis=1), counts.sum(axis=0)
    total = num_true.sum(axis=0)
    present = num_true > 0
    recall = _share(hits, num_true)
    precision = np.where(present, _share(hits, num_predicted, otherwise=0.0), np.nan)
    f1 = np.where(present, _share(2 * hits, num_true + num_predicted), np.nan)
    specificity = _share(total - num_true - num_predicted + hits, total - num_true)
    values = {
        "accuracy": _share(hits.sum(axis=0), total),
        "balanced_accuracy": nan_mean(recall),
        "f1_macro": nan_mean(f1),
        "f1_macro_sklearn": nan_mean(_share(2 * hits, num_true + num_predicted)),
    }
    for family, rows in zip(FAMILIES, (recall, precision, specificity, f1), strict=True):
        values |= {f"{family}/{name}": row for name, row in zip(classes, rows, strict=True)}
    return values


def nan_mean(rows: FloatArray) -> FloatArray:
    """Returns the mean over classes without NaN values, (C, D) -> (D,); NaN where all are NaN. Unlike `numpy.nanmean`,
    it does not warn."""
    known = ~np.isnan(rows)
    return _share(np.where(known, rows, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _share(part: FloatArray, whole: FloatArray, otherwise: float = np.nan) -> FloatArray:
    shares: FloatArray = np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0)
    return shares
