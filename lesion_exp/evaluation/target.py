"""One question with two answers, asked of a predictions table: is it this class, is it malignant?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, did_you_mean
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes, malignant_view
from lesion_exp.evaluation.predictions import PREFIX, BoolArray, FloatArray, classes_of


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
