"""Suspected label errors: labels that a model contradicts on images that it was not trained on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, not_installed
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import check, classes_of, predicted_classes, probabilities, true_classes

PACKAGE: Final = "cleanlab"
LEAST_SKILL: Final = 2 / 3
"""The least balanced accuracy of a network, on a scale from guessing (0) to perfect (1), for a list of label errors.

A network contradicts wrong labels, and it makes mistakes; a weak network makes many more mistakes than there are wrong
labels. In a simulation (`scripts/label_error_bar.py`) with 10% wrong labels and a network at this threshold, about 80,
70 and 60% of the suspected labels are wrong with 2, 3 and 7 classes; at half the threshold they are 48, 30 and 26%.
With 5% wrong labels they are 68, 46 and 36% at the threshold. The list of a weaker network would mostly contain the
network's own mistakes.
"""


def least_balanced_accuracy(table: pd.DataFrame) -> float:
    """Returns the least balanced accuracy that a network must have for a list of label errors; see `LEAST_SKILL`."""
    guessing = 1 / max(table["label"].nunique(), 1)
    return guessing + LEAST_SKILL * (1 - guessing)


def check_strong_enough(table: pd.DataFrame, least: float | None = None) -> float:
    """Checks that the balanced accuracy of a predictions table is high enough, and returns it.

    Args:
        table: predictions table.
        least: the least balanced accuracy; None: that of `least_balanced_accuracy`.

    Raises:
        DataError: the balanced accuracy is lower, or `table` is not a predictions table.
    """
    check(table)
    found = metrics(table, ["balanced_accuracy"])["balanced_accuracy"]
    bar = least_balanced_accuracy(table) if least is None else least
    if found >= bar:
        return found
    reason = (
        ""
        if least is not None
        else f" (two thirds of the way from guessing among {table['label'].nunique()} classes to always right)"
    )
    raise DataError(
        f"expected a network with a balanced accuracy of at least {bar:.3f}{reason}, got one with {found:.3f} on "
        f"{len(table):,} images: it is too weak, because most of the labels that it contradicts would be its own "
        f"mistakes. Name a better run, or set min_balanced_accuracy={np.floor(100 * found) / 100:g} to list them "
        f"nevertheless"
    )


def label_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the suspected label errors of a predictions table, the lowest scores first.

    The columns are `row_id`, `image_id`, `label`, `suggested` (the predicted class) and `score` (the probability of the
    label, 0 to 1).

    The method is confident learning by the package cleanlab (Northcutt et al. 2021, arXiv:1911.00068): an image is
    counted as one of another class if the probability of that class is at least its mean over the images with that
    label. The counts estimate how many labels of each class belong to each other class, and as many images are
    returned, those with the largest margins first (prune by noise rate). The images must not have been used to train
    the model. Systematic errors of the model look like label errors, so a person has to check each image.

    Raises:
        ConfigError: cleanlab is not installed.
        DataError: `table` is not a predictions table.
    """
    check(table)
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise not_installed(PACKAGE, "suspected label errors") from error
    true, probs = true_classes(table), probabilities(table)
    present = np.unique(true)  # cleanlab has no threshold for a class without images, and no label of it can be wrong
    within = probs[:, present] / np.maximum(probs[:, present].sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    suspected = np.asarray(find_label_issues(np.searchsorted(present, true), within, n_jobs=1), dtype=np.bool_)
    names = np.array(classes_of(table), dtype=object)
    suggested = names[predicted_classes(table)]
    found = table[["row_id", "image_id", "label"]].assign(suggested=suggested, score=probs[np.arange(len(true)), true])
    return found[suspected].sort_values("score", kind="stable", ignore_index=True)


def errors_by_class(table: pd.DataFrame, found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns, for each class with images, the numbers of images, of suspected labels and of suggested classes."""
    counts: dict[str, dict[str, Any]] = {}
    for name in classes_of(table):
        images, mine = int((table["label"] == name).sum()), found[found["label"] == name]
        if images:
            suggested = {str(other): int(count) for other, count in mine["suggested"].value_counts().items()}
            counts[name] = {"images": images, "suspected": len(mine), "suggested": suggested}
    return counts
