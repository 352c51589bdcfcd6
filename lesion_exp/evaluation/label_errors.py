"""Labels that a model, which has not seen the image, has good reason to doubt."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, not_installed
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import check, classes_of, predicted_classes, probabilities, true_classes

PACKAGE: Final = "cleanlab"
LEAST_SKILL: Final = 2 / 3
"""Of the way from guessing to always right: the balanced accuracy from which on a network may doubt labels.

What a network disputes are wrong labels and its own mistakes, and a weak network makes many more mistakes than there
are wrong labels. In a simulation (`scripts/label_error_bar.py`) with 10% of the labels wrong, about 80, 70 and 60% of
the suspected labels of 2, 3 and 7 classes are wrong at this bar, but half as far from guessing 48, 30 and 26%. With 5%
of them wrong it is 68, 46 and 36% at the bar. From a weaker network the list would mostly be its own mistakes.
"""


def least_balanced_accuracy(table: pd.DataFrame) -> float:
    """The balanced accuracy on a predictions table from which on a network is good enough to doubt its labels."""
    guessing = 1 / max(table["label"].nunique(), 1)
    return guessing + LEAST_SKILL * (1 - guessing)


def check_strong_enough(table: pd.DataFrame, least: float | None = None) -> float:
    """The balanced accuracy on a predictions table, if it is at least `least` (None: `least_balanced_accuracy`).

    Raises:
        DataError: it is lower, so the network is too weak to judge labels; or this is no predictions table.
    """
    check(table)
    found = metrics(table, ["balanced_accuracy"])["balanced_accuracy"]
    bar = least_balanced_accuracy(table) if least is None else least
    if found >= bar:
        return found
    reason = (
        ""
        if least is not None
        else f", two thirds of the way from guessing among {table['label'].nunique()} classes to always right"
    )
    raise DataError(
        f"expected a network with a balanced accuracy of at least {bar:.3f}{reason}, got one with {found:.3f} on "
        f"{len(table):,} images: it is too weak to judge labels, since most that it disputes would be its own "
        f"mistakes. Name a better run, or say min_balanced_accuracy={np.floor(100 * found) / 100:g} to list them all "
        f"the same"
    )


def label_errors(table: pd.DataFrame) -> pd.DataFrame:
    """The suspected label errors of a predictions table, the surest first: `row_id`, `image_id`, `label`, `suggested`
    (the predicted class) and `score` (the probability of the label that it has, 0 to 1).

    Confident learning by the package cleanlab (Northcutt et al. 2021, arXiv:1911.00068): an image counts as one of
    another class if that class's probability is at least its mean over the images so labelled. These counts say how
    many labels of each class are wrong as which other; so many are named, those with the largest margins first (prune
    by noise rate). It takes predictions of images that the model was not trained on. A systematic weakness of the
    model looks like label errors, too: somebody has to look at every one.

    Raises:
        ConfigError: cleanlab is not installed.
        DataError: no predictions table.
    """
    check(table)
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise not_installed(PACKAGE, "suspected label errors") from error
    true, probs = true_classes(table), probabilities(table)
    present = np.unique(true)  # a class without an image has no threshold, and none of its labels can be wrong
    within = probs[:, present] / np.maximum(probs[:, present].sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    suspected = np.asarray(find_label_issues(np.searchsorted(present, true), within, n_jobs=1), dtype=np.bool_)
    names = np.array(classes_of(table), dtype=object)
    suggested = names[predicted_classes(table)]
    found = table[["row_id", "image_id", "label"]].assign(suggested=suggested, score=probs[np.arange(len(true)), true])
    return found[suspected].sort_values("score", kind="stable", ignore_index=True)


def errors_by_class(table: pd.DataFrame, found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """For each class with images: how many there are, how many labels are suspected, and what is suggested instead."""
    counts: dict[str, dict[str, Any]] = {}
    for name in classes_of(table):
        images, mine = int((table["label"] == name).sum()), found[found["label"] == name]
        if images:
            suggested = {str(other): int(count) for other, count in mine["suggested"].value_counts().items()}
            counts[name] = {"images": images, "suspected": len(mine), "suggested": suggested}
    return counts
