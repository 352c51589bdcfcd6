"""Reads predictions that somebody else made from a table: ids, classes, and probabilities, logits or classes alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.dataset.table import OFFICIAL_PARTS
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases
from lesion_exp.evaluation.challenge_format import BENIGN, MALIGNANT, ChallengeFormat, format_of
from lesion_exp.evaluation.predictions import SUM_TOLERANCE, FloatArray
from lesion_exp.image_ids import clean_name, image_key, plain_column, usual_id_columns
from lesion_exp.text_table import as_numbers, read_table
from lesion_exp.verbs.evaluate.class_columns import class_columns, label_column
from lesion_exp.verbs.evaluate.import_request import ID_COLUMNS, ImportRequest

_ONLY_0_AND_1: Final = (
    "all probabilities of {} are 0 or 1: if they are predicted classes, areas and calibration say nothing about them; "
    "if they are the true classes, every score is perfect"
)


@dataclass(frozen=True)
class GivenPredictions:
    """The predictions of a file, one for each id."""

    ids: tuple[str, ...]
    of_lesions: bool
    """Whether the ids are those of lesions."""
    classes: tuple[str, ...]
    """The classes in alphabetical order; empty for predicted labels."""
    probs: FloatArray
    """Float (N, C); N rows of no column for predicted labels."""
    labels: tuple[str, ...]
    """The predicted labels as in the file; empty where there are probabilities."""
    parts: tuple[str, ...]
    """The part of each row, `train`, `val` or `test`; empty if the file does not say."""
    columns: Mapping[str, str]
    """Class, or what a column is -> its name in the file."""
    challenge: str | None
    """The format, if it is that of a challenge."""
    is_rescaled: bool = False
    """Whether rows of confidences were divided by sums that are not 1."""
    notes: tuple[str, ...] = ()
    """What a reader has to know about the values, one sentence each, without a full stop."""


def read_predictions_file(request: ImportRequest, known: Collection[str]) -> GivenPredictions:
    """Reads the predictions that `request` names.

    Args:
        request: the file, and which column is what.
        known: the labels of the true classes, which the names of columns may be beside names of the taxonomy.

    Raises:
        ConfigError: `columns` names a column that the file does not have.
        DataError: the file has no ids or no classes, an id occurs twice, or a value is missing or out of range.
    """
    path = request.predictions
    frame = read_table(path, "predictions")
    unknown = [name for name in request.columns.values() if name not in frame]
    if unknown:
        raise ConfigError(
            f"expected columns= to name columns of {path.name} ({', '.join(map(str, frame.columns))}), got {unknown[0]}"
            f"{did_you_mean(unknown[0], map(str, frame.columns))}"
        )
    challenge = None if set(request.columns) & set(ID_COLUMNS) else format_of(set(frame.columns))
    key, of_lesions = _ids_of(frame, request, challenge, path.name)
    ids = [None if pd.isna(value) else clean_name(value) for value in frame[key]]
    _check_ids(ids, key, path.name)
    names = tuple(str(name) for name in ids)
    columns = {} if request.reads_labels else class_columns(frame, request, challenge, known, key)
    part = request.columns.get("split", "split" if "split" in frame else None)
    parts = () if part is None else tuple(part_of(value, path.name) for value in frame[part])
    used = {"lesion_id" if of_lesions else "image_id": key, **({} if part is None else {"split": part})}
    told = None if challenge is None else challenge.name
    if request.reads_labels or not (columns or request.values == "logits"):
        column = label_column(frame, request)
        labels = tuple("" if pd.isna(value) else str(value).strip() for value in frame[column])
        empty = [name for name, label in zip(names, labels, strict=True) if not label]
        if empty:
            raise DataError(
                f"expected a predicted class for each of the {len(names):,} rows of {path.name}, but {len(empty):,} "
                f"have none:\n{first_cases(empty)}\nfill these cells, or remove the rows"
            )
        nothing = np.empty((len(names), 0))
        return GivenPredictions(names, of_lesions, (), nothing, labels, parts, {**used, "prediction": column}, told)
    classes = tuple(sorted(columns))
    named = [columns[name] for name in classes]
    if len(classes) < 2 and classes != (MALIGNANT,):
        raise DataError(
            f"expected a column for each class in {path.name}, got {named[0] if named else 'none'} among "
            f"{', '.join(map(str, frame.columns))}; name them with columns='{{CLASS: COLUMN, ...}}'"
        )
    given = _numbers(frame, named, names, path.name)
    if classes == (MALIGNANT,):
        classes, given = (BENIGN, MALIGNANT), _of_two_classes(given, request, names, path.name)
    probs = _as_probabilities(given, named, request, names, path.name)
    is_rescaled = request.rescale and bool((np.abs(given.sum(axis=1) - 1) > SUM_TOLERANCE).any())
    notes = (_ONLY_0_AND_1.format(path.name),) if np.isin(probs, (0, 1)).all() else ()
    return GivenPredictions(names, of_lesions, classes, probs, (), parts, {**used, **columns}, told, is_rescaled, notes)


def _ids_of(
    frame: pd.DataFrame, request: ImportRequest, challenge: ChallengeFormat | None, file: str
) -> tuple[str, bool]:
    """The column with the ids, and whether they are those of lesions."""
    for name in ID_COLUMNS:
        if name in request.columns:
            return request.columns[name], name == "lesion_id"
    if challenge is not None:
        return challenge.key, challenge.of_lesions
    of_lesions = [str(column) for column in frame.columns if plain_column(column) == "lesion_id"]
    found = next(iter([*usual_id_columns(frame.columns), *of_lesions]), None)
    if found is None:
        raise DataError(
            f"expected a column with the ids of the images in {file}, got {', '.join(map(str, frame.columns))}; name "
            f"it with columns='{{image_id: COLUMN}}'"
        )
    return found, found in of_lesions


def _check_ids(ids: Sequence[str | None], key: str, file: str) -> None:
    missing = [f"row {number + 2}" for number, name in enumerate(ids) if not name]
    if missing:
        raise DataError(
            f"expected an id in the column {key} of each row of {file}, but {len(missing):,} have none:\n"
            f"{first_cases(missing)}\nfill these cells, or remove the rows"
        )
    keys = pd.Series([image_key(name) for name in ids])
    doubled = [str(name) for name, twice in zip(ids, keys.duplicated(), strict=True) if twice]
    if doubled:
        raise DataError(
            f"expected each id once in the column {key} of {file}, but {len(doubled):,} rows repeat one (endings, "
            f"upper and lower case do not distinguish ids):\n{first_cases(doubled)}\nkeep one prediction for each id"
        )


def part_of(value: object, file: str) -> str:
    """Returns the part, `train`, `val` or `test`, that a cell of the column `split` of `file` names.

    Raises:
        DataError: it names none.
    """
    part = OFFICIAL_PARTS.get(str(value).strip().lower())
    if part is None:
        raise DataError(
            f"expected train, val or test in the column split of {file}, got {value!r}; correct it, or rename the "
            f"column if it has another meaning"
        )
    return part


def _numbers(frame: pd.DataFrame, columns: Sequence[str], names: Sequence[str], file: str) -> FloatArray:
    cells = frame[list(columns)]
    numbers = cells.apply(as_numbers)
    values: FloatArray = np.asarray(numbers.to_numpy(), dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        rows, places = (found.tolist() for found in np.nonzero(bad))
        cases = [
            f"{names[row]}: {cells.iat[row, place]!r} in {columns[place]}"
            for row, place in zip(rows, places, strict=True)
        ]
        raise DataError(
            f"expected finite numbers in the columns {', '.join(columns)} of {file}, but {len(set(rows)):,} of "
            f"{len(names):,} rows hold others:\n{first_cases(cases)}\ncorrect these rows, or remove them and import "
            f"with on_unmatched=skip"
        )
    return values


def _of_two_classes(malignant: FloatArray, request: ImportRequest, names: Sequence[str], file: str) -> FloatArray:
    """Float (N, 2), the values of benign and malignant, from those of malignant alone, float (N, 1)."""
    if request.values == "logits":  # of a sigmoid, which is the softmax of 0 and the logit
        return np.concatenate([np.zeros_like(malignant), malignant], axis=1)
    _check_target(malignant, names, file)
    malignant = np.clip(malignant, 0, 1)  # sums of float32 may be 1.0000001
    return np.concatenate([1 - malignant, malignant], axis=1)


def _check_target(values: FloatArray, names: Sequence[str], file: str) -> None:
    off = ((values < -SUM_TOLERANCE) | (values > 1 + SUM_TOLERANCE)).any(axis=1)
    if off.any():
        cases = [f"{names[row]}: {values[row, 0]:.9g}" for row in np.flatnonzero(off).tolist()]
        raise DataError(
            f"expected the probability that an image is malignant, from 0 to 1, in {file}, but {len(cases):,} of "
            f"{len(names):,} rows hold others:\n{first_cases(cases)}\nvalues=logits is for logits; convert other "
            f"scores, for example by their ranks"
        )


def _as_probabilities(
    values: FloatArray, columns: Sequence[str], request: ImportRequest, names: Sequence[str], file: str
) -> FloatArray:
    if request.values == "logits":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        found: FloatArray = powers / powers.sum(axis=1, keepdims=True)
        return found
    sums = values.sum(axis=1)
    negative, off = (values < -SUM_TOLERANCE).any(axis=1), np.abs(sums - 1) > SUM_TOLERANCE
    wrong = negative | (sums <= 0 if request.rescale else off)
    if wrong.any():
        cases = [
            f"{names[row]}: sum {sums[row]:.4g}, smallest {values[row].min():.4g}"
            for row in np.flatnonzero(wrong).tolist()
        ]
        remedy = _remedy(negative=bool(negative.any()), rescales=request.rescale)
        raise DataError(
            f"expected probabilities that are not negative and sum to 1 in the columns {', '.join(columns)} of {file}, "
            f"but those of {len(cases):,} of {len(names):,} rows are not:\n{first_cases(cases)}\n{remedy}"
        )
    kept = np.clip(values, 0, None)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True), dtype=np.float64)


def _remedy(*, negative: bool, rescales: bool) -> str:
    if negative:
        return "values=logits if the columns hold logits"
    if rescales:
        return "rescale=true needs a sum above 0; remove these rows, and leave their images out with on_unmatched=skip"
    return (
        "rescale=true divides each row by its sum; values=logits is for logits; or name the columns of all classes "
        "with columns='{CLASS: COLUMN, ...}'"
    )
