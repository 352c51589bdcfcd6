"""The predictions table: a model's whole verdict on a part of a data set, a row an image.

| column | content |
|---|---|
| `image_id`, `row_id`, `lesion_id`, `patient_id` | as in the data set's table; `row_id` is unique |
| `label` | true class, a name |
| `prediction` | class of the highest probability |
| `p_<class>` | float32 probability, one column a class, in class order; no other column starts with `p_` |
| `age`, `sex`, `site`, `source` | for subgroups |

The data set's own columns follow, but no column that shows, identifies or locates a picture: neither hashes and
thumbnails nor paths of files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import DataError, did_you_mean, first_cases

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ID_COLUMNS: Final = ("image_id", "row_id", "lesion_id", "patient_id")
SUBGROUP_COLUMNS: Final = ("age", "sex", "site", "source")
PREFIX: Final = "p_"
NOT_KEPT: Final = frozenset({"sha256", "phash", "thumbnail", "image_path", "mask_path", "clinical_path"})
"""Columns of a data set's table that no predictions table has: what it keeps can be read by whoever reads the store."""
_PATH: Final = re.compile(r"([/\\]|^[A-Za-z]:).*\.\w{2,5}$|^([/\\]|[A-Za-z]:[/\\]|~/|file:)")
_LOOKED_AT: Final = 100
"""Values of a column of the user's own by which it is known to hold paths."""
SUM_TOLERANCE: Final = 1e-3
"""Largest accepted distance of a row's sum from 1: float32 rounding stays far below it, logits do not."""


def predictions_table(rows: pd.DataFrame, probs: npt.NDArray[np.floating[Any]], classes: Sequence[str]) -> pd.DataFrame:
    """The predictions table of `rows`.

    Args:
        rows: the images, with `image_id, row_id, lesion_id, patient_id, label, age, sex, site, source`; further
            columns follow at the end of the table, except those of pictures and paths.
        probs: float (N, C), softmax probabilities in the order of `rows` and `classes`.
        classes: class names, in class order.

    Raises:
        DataError: a column lacks, shapes differ, an image comes twice, a label is not among the classes, or a row's
            probabilities are not finite, are negative or do not sum to 1.
    """
    needed = [*ID_COLUMNS, "label", *SUBGROUP_COLUMNS]
    lacking = [column for column in needed if column not in rows]
    if lacking:
        raise DataError(f"expected the columns {', '.join(needed)}, but {', '.join(lacking)} are missing")
    further = [column for column in rows.columns if column not in needed and not _is_private(rows[column])]
    taken = [column for column in further if column.startswith(PREFIX) or column == "prediction"]
    if taken:
        raise DataError(f"expected rows without prediction or {PREFIX}... columns, got {', '.join(taken)}; drop them")
    if probs.shape != (len(rows), len(classes)):
        raise DataError(
            f"expected probabilities of shape ({len(rows)}, {len(classes)}) for {len(rows)} images and "
            f"{len(classes)} classes, got {probs.shape}"
        )
    columns = {f"{PREFIX}{name}": probs[:, index].astype(np.float32) for index, name in enumerate(classes)}
    table = pd.concat(
        [
            rows[[*ID_COLUMNS, "label"]].reset_index(drop=True),
            pd.DataFrame({"prediction": np.asarray(classes, dtype=object)[probs.argmax(axis=1)], **columns}),
            rows[[*SUBGROUP_COLUMNS, *further]].reset_index(drop=True),
        ],
        axis=1,
    )
    table["label"] = table["label"].astype(str)
    check(table)
    return table


def _is_private(values: pd.Series) -> bool:
    """Whether a column shows, identifies or locates pictures: by its name, or as it holds bytes or paths of files."""
    if values.name in NOT_KEPT:
        return True
    if values.dtype.kind != "O" and not isinstance(values.dtype, pd.StringDtype):
        return False
    first = values.dropna().iloc[:_LOOKED_AT]
    return any(isinstance(value, bytes) or (isinstance(value, str) and _PATH.search(value)) for value in first)


def check(table: pd.DataFrame) -> None:
    """Refuses what is no predictions table; for tables that come from a file.

    Raises:
        DataError: as in `predictions_table`.
    """
    if table.empty:
        raise DataError("expected at least one prediction, got an empty table; is this part of the split empty?")
    if "row_id" in table:
        repeated = table["row_id"][table["row_id"].duplicated()]
        if len(repeated):
            raise DataError(
                f"expected every row_id once, but {len(repeated)} come again; an image counted twice spoils every "
                f"metric:\n{first_cases(repeated)}"
            )
    true_classes(table)
    predicted_classes(table)
    probs = probabilities(table)
    names = table["image_id"].astype(str).to_numpy() if "image_id" in table else np.arange(len(table)).astype(str)
    finite = np.isfinite(probs).all(axis=1)
    if not finite.all():
        raise DataError(
            f"expected finite probabilities, but {np.count_nonzero(~finite)} of {len(table)} rows hold NaN or "
            f"infinity; training diverged (lower optimizer.lr, set trainer.gradient_clip_val) or an image is "
            f"corrupt:\n{first_cases(names[~finite])}"
        )
    off = (np.abs(probs.sum(axis=1) - 1) > SUM_TOLERANCE) | (probs < -SUM_TOLERANCE).any(axis=1)
    if off.any():
        cases = [
            f"{name}: sum {row.sum():.4g}, smallest {row.min():.4g}"
            for name, row in zip(names[off], probs[off], strict=True)
        ]
        raise DataError(
            f"expected probabilities that are not negative and sum to 1, but {len(cases)} of {len(table)} rows differ; "
            f"apply a softmax to logits first:\n{first_cases(cases)}"
        )


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The class names in class order.

    Raises:
        DataError: the table has no probability column.
    """
    names = tuple(str(column)[len(PREFIX) :] for column in table.columns if str(column).startswith(PREFIX))
    if not names:
        raise DataError(
            f"expected one column {PREFIX}<class> a class, got {', '.join(map(str, table.columns))}; is this a "
            f"predictions table?"
        )
    return names


def probabilities(table: pd.DataFrame) -> FloatArray:
    """The probabilities, float64 (N, C), in class order."""
    columns = [f"{PREFIX}{name}" for name in classes_of(table)]
    return table[columns].to_numpy(dtype=np.float64)


def true_classes(table: pd.DataFrame) -> IntArray:
    """The position of each true class in the class order, int64 (N,).

    Raises:
        DataError: a label is not among the classes.
    """
    return _positions(table, "label")


def predicted_classes(table: pd.DataFrame) -> IntArray:
    """The position of each predicted class in the class order, int64 (N,).

    Raises:
        DataError: a prediction is not among the classes.
    """
    return _positions(table, "prediction")


def _positions(table: pd.DataFrame, column: str) -> IntArray:
    classes = classes_of(table)
    if column not in table:
        raise DataError(
            f"expected a column {column!r} in a predictions table, got {', '.join(map(str, table.columns))}"
        )
    names = table[column].astype(str).to_numpy()
    positions = pd.Index(classes).get_indexer(pd.Index(names))
    if (positions < 0).any():
        unknown = sorted(set(names[positions < 0]))
        raise DataError(
            f"expected every {column} to be one of the classes {', '.join(classes)}, got "
            f"{', '.join(map(repr, unknown))}{did_you_mean(unknown[0], classes)}"
        )
    return positions.astype(np.int64)
