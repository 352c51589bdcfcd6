"""Questions with two answers, asked of a predictions table: is it malignant, is it this class?"""

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
    """The predictions table of `table` over the classes `benign` and `malignant`; None where it has no such view.

    The probability of malignancy is the sum of those of the malignant classes, and the prediction the more probable of
    the two: an image with mel 0.3, bcc 0.3 and nv 0.4 is predicted malignant, though nv leads. A table of two classes
    is such a view already, and one with a class that may be either (or that the taxonomy does not know) has none.
    `rule_in_words` says the same to readers.
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
    """The rule of `malignant_view` in a sentence, for every output that shows `<metric>/malignant` of such a table.

    Raises:
        ValueError: a table with these classes has no such view.
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
    """Whether each of `classes` is malignant; None where that is not determined, or tells nothing more."""
    kinds = [malignancy(name) for name in classes]
    known = [kind for kind in kinds if kind is not None]
    return known if len(classes) > 2 and len(known) == len(kinds) and any(known) and not all(known) else None


def targets(classes: Sequence[str]) -> list[str]:
    """What can be asked of a table with these classes: each of them, and `malignant` where that is determined."""
    return [*classes, *([MALIGNANT] if malignant_classes(classes) and MALIGNANT not in classes else [])]


def scores_of(table: pd.DataFrame, target: str) -> tuple[FloatArray, BoolArray]:
    """The probability that the answer is yes, float64 (N,), and the truth, bool (N,).

    Raises:
        DataError: it cannot be asked of this table.
    """
    known = targets(classes_of(table))
    if target not in known:
        raise DataError(f"expected one of {', '.join(known)} to tell from the rest, got {target!r}"
                        f"{did_you_mean(target, known)}")  # fmt: skip
    seen = table if target in classes_of(table) else malignant_view(table)
    assert seen is not None, "targets() names malignant only where there is a view"
    positive = (seen["label"].astype(str) == target).to_numpy()
    return seen[f"{PREFIX}{target}"].to_numpy(dtype=np.float64), np.asarray(positive, dtype=np.bool_)
