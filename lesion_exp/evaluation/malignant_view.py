"""Binary views of a predictions table: malignant against benign, and one class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, did_you_mean
from lesion_exp.evaluation.predictions import PREFIX, BoolArray, FloatArray, classes_of, probabilities
from lesion_exp.taxonomy import malignancy

BENIGN: Final = "benign"
MALIGNANT: Final = "malignant"
_MOST_NAMES: Final = 8
"""More malignant classes than these are counted instead of named in a sentence."""


def malignant_view(table: pd.DataFrame) -> pd.DataFrame | None:
    """Returns the predictions of `table` over the classes `benign` and `malignant`; None if there is no such view.

    The probability of `malignant` is the sum over the malignant classes, and the more probable of the two is predicted:
    an image with mel 0.3, bcc 0.3 and nv 0.4 is predicted as malignant although nv has the highest probability. There
    is no view of a table with two classes, none of a table with a class `malignant`, and none of a table with a class
    that may be either, or that is not in the taxonomy. `rule_in_words` explains the rule to readers.
    """
    kinds = malignant_classes(classes_of(table))
    if kinds is None:
        return None
    probs = probabilities(table)
    malignant = probs[:, kinds].sum(axis=1)
    benign = probs[:, [not kind for kind in kinds]].sum(axis=1)
    is_true = pd.Series(classes_of(table)).isin(np.array(classes_of(table))[kinds])
    labels = dict(zip(classes_of(table), np.where(is_true, MALIGNANT, BENIGN), strict=True))
    kept = table.drop(columns=[f"{PREFIX}{name}" for name in classes_of(table)])
    return kept.assign(
        label=table["label"].astype(str).map(labels),
        prediction=np.where(malignant > benign, MALIGNANT, BENIGN),
        **{f"{PREFIX}{BENIGN}": benign, f"{PREFIX}{MALIGNANT}": malignant},
    )


def rule_in_words(classes: Sequence[str]) -> str:
    """Returns the rule of `malignant_view` as a sentence, for every output with metrics `<metric>/malignant`.

    Raises:
        ValueError: tables with these classes have no malignant view.
    """
    kinds = malignant_classes(classes)
    if kinds is None:
        raise ValueError(f"expected classes that are malignant or benign, at least one of each, got {classes}")
    names = [name for name, is_malignant in zip(classes, kinds, strict=True) if is_malignant]
    which = ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} of {len(classes)}"
    return (
        f"An image is predicted malignant where the probabilities of the malignant classes ({which}) add up to more "
        f"than 0.5, whichever class has the highest."
    )


def malignant_classes(classes: Sequence[str]) -> list[bool] | None:
    """Returns whether each of `classes` is malignant; None if `malignant_view` has no view of them."""
    kinds = [malignancy(name) for name in classes]
    known = [kind for kind in kinds if kind is not None]
    is_open = len(classes) > 2 and MALIGNANT not in classes  # else metrics of the view would have names of that class
    return known if is_open and len(known) == len(kinds) and any(known) and not all(known) else None


def targets(classes: Sequence[str]) -> list[str]:
    """Returns the possible targets of a binary view: each class, and `malignant` if there is a malignant view."""
    return [*classes, *([MALIGNANT] if malignant_classes(classes) else [])]


def scores_of(table: pd.DataFrame, target: str) -> tuple[FloatArray, BoolArray]:
    """Returns the probability of `target`, float64 (N,), and whether each image is one of `target`, bool (N,).

    Raises:
        DataError: `target` is not among `targets`.
    """
    known = targets(classes_of(table))
    if target not in known:
        raise DataError(f"expected one of {', '.join(known)} as target, got {target!r}"
                        f"{did_you_mean(target, known)}")  # fmt: skip
    seen = table if target in classes_of(table) else malignant_view(table)
    assert seen is not None, "targets() names malignant only where there is a view"
    positive = (seen["label"].astype(str) == target).to_numpy()
    return seen[f"{PREFIX}{target}"].to_numpy(dtype=np.float64), np.asarray(positive, dtype=np.bool_)
