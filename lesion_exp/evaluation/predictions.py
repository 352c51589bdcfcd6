"""The predictions table: the predictions of a model for a part of a data set, one row for each image.

| column | content |
|---|---|
| `image_id`, `row_id`, `lesion_id`, `patient_id` | as in the data set's table; `row_id` is unique |
| `label` | true class, a name |
| `prediction` | class of the highest probability |
| `p_<class>` | float32 probability, one column for each class, in class order; no other column starts with `p_` |
| `age`, `sex`, `site`, `source` | for subgroups |
| `energy` | float32, -log sum_c exp(logit_c), the mean over the views of an image; only in tables of one network |
| `is_unknown` | bool: the network does not know the true class; only in tables with such images |
| `given_label` | the label in the data set, where labels were mapped to the network's classes (see `class_mapping`) |
| `labels_only` | true: the predicted classes were imported without probabilities; only in such tables |
| `rescaled` | true: rows of imported confidences were divided by their sums (`rescale=true`); only in such tables |

Images of unknown classes do not count for closed-set metrics: functions that need the true classes take tables without
them, as `known_rows` returns. See `unknown` for the metrics of unknown classes.

The data set's own columns follow, except those that show, identify or locate an image: hashes, thumbnails and file
paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.errors import DataError, did_you_mean, first_cases
from lesion_exp.taxonomy import IS_UNKNOWN

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ID_COLUMNS: Final = ("image_id", "row_id", "lesion_id", "patient_id")
SUBGROUP_COLUMNS: Final = ("age", "sex", "site", "source")
PREFIX: Final = "p_"
ENERGY: Final = "energy"
LABELS_ONLY: Final = "labels_only"
RESCALED: Final = "rescaled"
NOT_KEPT: Final = frozenset({"sha256", "phash", "thumbnail", "copy_id", "image_path", "mask_path", "clinical_path"})
"""Columns of a data set's table that are removed, because everybody with access to the store can read predictions."""
_PATH: Final = re.compile(r"([/\\]|^[A-Za-z]:).*\.\w{2,5}$|^([/\\]|[A-Za-z]:[/\\]|~/|file:)")
_LOOKED_AT: Final = 100
"""The number of values of a user's column that are searched for file paths."""
SUM_TOLERANCE: Final = 1e-3
"""Largest accepted distance of a row's sum from 1. Rounding to float32 stays far below it; logits do not."""


def predictions_table(
    rows: pd.DataFrame,
    probs: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    energy: npt.NDArray[np.floating[Any]] | None = None,
) -> pd.DataFrame:
    """Builds the predictions table of `rows`.

    Args:
        rows: the images, with `image_id, row_id, lesion_id, patient_id, label, age, sex, site, source`. Further columns
            are appended to the table, except those of images and file paths.
        probs: float (N, C), softmax probabilities in the order of `rows` and `classes`.
        classes: class names, in class order.
        energy: float (N,), the energy of each image, if the logits of one network are known.

    Raises:
        DataError: a column is missing, shapes differ, an image occurs twice, a label is not among the classes and the
            image is not marked by `is_unknown`, or probabilities are not finite, are negative or do not sum to 1.
    """
    needed = [*ID_COLUMNS, "label", *SUBGROUP_COLUMNS]
    lacking = [column for column in needed if column not in rows]
    if lacking:
        raise DataError(f"expected the columns {', '.join(needed)}, but {', '.join(lacking)} are missing")
    further = [column for column in rows.columns if column not in needed and not _is_private(rows[column])]
    taken = [column for column in further if column.startswith(PREFIX) or column in ("prediction", ENERGY)]
    if taken:
        raise DataError(
            f"expected rows without prediction, {ENERGY} or {PREFIX}... columns, got {', '.join(taken)}; drop them"
        )
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
    if not is_unknown(table).any():
        table = table.drop(columns=IS_UNKNOWN, errors="ignore")
    if energy is not None:
        table[ENERGY] = energy.astype(np.float32)
    check(table)
    return table


def _is_private(values: pd.Series) -> bool:
    """Returns whether a column shows, identifies or locates images: its name says so, or it contains bytes or file
    paths.
    """
    if values.name in NOT_KEPT:
        return True
    if values.dtype.kind != "O" and not isinstance(values.dtype, pd.StringDtype):
        return False
    first = values.dropna().iloc[:_LOOKED_AT]
    return any(isinstance(value, bytes) or (isinstance(value, str) and _PATH.search(value)) for value in first)


def check(table: pd.DataFrame) -> None:
    """Checks that `table`, which may come from a file, is a predictions table.

    Raises:
        DataError: as in `predictions_table`.
    """
    if table.empty:
        raise DataError("expected at least one prediction, got an empty table; use a part of the split that has images")
    if "row_id" in table:
        repeated = table["row_id"][table["row_id"].duplicated()]
        if len(repeated):
            raise DataError(
                f"expected every row_id once, but {len(repeated)} of {len(table)} rows repeat one; remove the repeated "
                f"rows, because metrics would count their images twice:\n{first_cases(repeated)}"
            )
    known = known_rows(table)
    if known.empty:
        raise DataError(
            f"expected images of the classes {', '.join(classes_of(table))}, but all {len(table):,} are of others "
            f"({', '.join(sorted(set(table['label'].astype(str))))}): no metric can be computed; use a part or a data "
            f"set with images of these classes"
        )
    true_classes(known)
    contradicting = sorted(set(unknown_rows(table)["label"].astype(str)) & set(classes_of(table)))
    if contradicting:
        raise DataError(
            f"expected no class of the network among the labels of images with {IS_UNKNOWN}, got "
            f"{', '.join(contradicting)}; correct the label or the column {IS_UNKNOWN}"
        )
    predicted_classes(table)
    probs = probabilities(table)
    names = table["image_id"].astype(str).to_numpy() if "image_id" in table else np.arange(len(table)).astype(str)
    check_finite(probs, names.tolist())
    off = (np.abs(probs.sum(axis=1) - 1) > SUM_TOLERANCE) | (probs < -SUM_TOLERANCE).any(axis=1)
    if off.any():
        cases = [
            f"{name}: sum {row.sum():.4g}, smallest {row.min():.4g}"
            for name, row in zip(names[off], probs[off], strict=True)
        ]
        raise DataError(
            f"expected probabilities that are not negative and sum to 1, but those of {len(cases)} of {len(table)} "
            f"rows are not; apply a softmax to logits first:\n{first_cases(cases)}"
        )


def check_finite(rows: FloatArray, names: Sequence[str]) -> None:
    """Checks that the probabilities or logits `rows` (N, C) of the images `names` are finite.

    Raises:
        DataError: some are NaN or infinite.
    """
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise DataError(
            f"expected finite probabilities, but {np.count_nonzero(~finite)} of {len(rows)} rows contain NaN or "
            f"infinity; training diverged (lower optimizer.lr, set trainer.gradient_clip_val) or an image is "
            f"corrupt:\n{first_cases(np.asarray(names)[~finite])}"
        )


def is_unknown(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Returns whether the true class of each image is unknown to the network, bool (N,); also for split tables.

    Raises:
        DataError: the column contains values other than true and false.
    """
    if IS_UNKNOWN not in table:
        return np.zeros(len(table), dtype=np.bool_)
    given = table[IS_UNKNOWN].fillna(False)
    if not given.isin([True, False]).all():
        wrong = next(value for value in given if value not in (True, False))
        raise DataError(f"expected true or false in the column {IS_UNKNOWN} of a predictions table, got {wrong!r}")
    return given.to_numpy(dtype=np.bool_)


def majority_baseline(table: pd.DataFrame) -> str:
    """Returns a sentence with the accuracies of always predicting the most frequent class of `table`, for
    comparison.
    """
    shares = table["label"].value_counts(normalize=True)
    num_classes = int((shares > 0).sum())
    return (
        f"always predicting {shares.index[0]} has an accuracy of {shares.iloc[0]:.3f} and a balanced accuracy of "
        f"{1 / num_classes:.3f}"
    )


def known_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Returns `table` without the images of unknown classes and without the column `is_unknown`."""
    return table if IS_UNKNOWN not in table else table[~is_unknown(table)].drop(columns=IS_UNKNOWN)


def unknown_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the images of unknown classes in `table`."""
    return table[is_unknown(table)]


def unknown_counts(table: pd.DataFrame) -> dict[str, int]:
    """Returns the number of images of each unknown class in `table`, by name in alphabetical order."""
    counts = unknown_rows(table)["label"].astype(str).value_counts()
    return {str(label): int(counts[label]) for label in sorted(counts.index)}


def unknown_in_words(counts: Mapping[str, int]) -> str:
    """Returns a sentence that says that the images of unknown classes in `counts` are left out of the metrics."""
    named = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    total = sum(counts.values())
    return (
        f"{total:,} image{'s' if total > 1 else ''} of classes that the training part does not have ({named}) "
        f"{'are' if total > 1 else 'is'} left out of all closed-set metrics"
    )


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Returns the class names in class order.

    Raises:
        DataError: the table has no probability column.
    """
    names = tuple(str(column)[len(PREFIX) :] for column in table.columns if str(column).startswith(PREFIX))
    if not names:
        raise DataError(
            f"expected a column {PREFIX}<class> for each class, got the columns {', '.join(map(str, table.columns))}; "
            f"give a predictions table, such as a run's predictions/test.parquet"
        )
    return names


def probabilities(table: pd.DataFrame) -> FloatArray:
    """Returns the probabilities, float64 (N, C), in class order."""
    columns = [f"{PREFIX}{name}" for name in classes_of(table)]
    return table[columns].to_numpy(dtype=np.float64)


def has_labels_only(table: pd.DataFrame) -> bool:
    """Returns whether `table` has predicted classes without probabilities: `p_<class>` is 1 or 0.

    Areas under curves, calibration and thresholds are meaningless for such tables and are left out.
    """
    return LABELS_ONLY in table and bool(table[LABELS_ONLY].all())


def is_rescaled(table: pd.DataFrame) -> bool:
    """Returns whether rows of `table` were divided by their sums, because their confidences did not sum to 1.

    That keeps the order of the classes of an image, but not the order of the images by a class.
    """
    return RESCALED in table and bool(table[RESCALED].all())


def true_classes(table: pd.DataFrame) -> IntArray:
    """Returns the position of each true class in the class order, int64 (N,).

    Raises:
        DataError: a label is not among the classes.
    """
    return _positions(table, "label")


def predicted_classes(table: pd.DataFrame) -> IntArray:
    """Returns the position of each predicted class in the class order, int64 (N,).

    Raises:
        DataError: a prediction is not among the classes.
    """
    return _positions(table, "prediction")


def _positions(table: pd.DataFrame, column: str) -> IntArray:
    classes = classes_of(table)
    if column not in table:
        raise DataError(
            f"expected a column {column!r} in a predictions table, got the columns {', '.join(map(str, table.columns))}"
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
