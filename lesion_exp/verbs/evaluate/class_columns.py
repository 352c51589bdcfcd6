"""Finds the columns of a file with predictions: one for each class, or one with the predicted class."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.challenge_format import MALIGNANT, TARGET, ChallengeFormat
from lesion_exp.evaluation.class_mapping import class_of
from lesion_exp.evaluation.predictions import PREFIX
from lesion_exp.image_ids import plain_column
from lesion_exp.text_table import as_numbers
from lesion_exp.verbs.evaluate.import_request import MAPPABLE, ImportRequest

_PREDICTED: Final = ("prediction", "predicted", "pred", "predicted_label", "predicted_class", "pred_label", "y_pred")
"""Names of columns with the predicted class, the most certain first."""
_BEFORE: Final = re.compile(r"^(?:p|prob|probs|probability|proba|pred|score|logit|logits)[_ .]", re.IGNORECASE)
"""What stands before the name of a class in the name of a column."""
_SCORES: Final = re.compile(
    r"(?:^|[_ .])(?:p|probs?|probability|probabilities|proba|preds?|predictions?|predicted|oof|scores?|logits?)"
    r"(?:$|[_ .])",
    re.IGNORECASE,
)
"""Words in the names of columns with predictions."""
_WEIGHT: Final = "weight"
"""The end of names such as `score_weight`, columns of the challenges' ground truths."""


def class_columns(
    frame: pd.DataFrame, request: ImportRequest, challenge: ChallengeFormat | None, known: Collection[str], key: str
) -> dict[str, str]:
    """Returns class -> column with its values: those of `columns=`, the `p_` columns, or those of the challenge, or
    those with a recognised name.

    Args:
        frame: the file.
        request: which column is what.
        challenge: the format of the file, if it is that of a challenge.
        known: the labels of the true classes.
        key: the column with the ids.

    Raises:
        ConfigError: two names in `columns=` mean the same class, or a column is that of two classes.
        DataError: two columns are those of one class, or the columns hold the true classes.
    """
    given = {name: column for name, column in request.columns.items() if name not in MAPPABLE}
    if given:
        return _chosen_columns(given, known)
    taken = {key, *request.columns.values()}
    others = [str(column) for column in frame.columns if column not in taken]
    own = [column for column in others if column.startswith(PREFIX) and _is_numeric(frame[column])]  # as written here
    if own and (challenge is None or len(own) > 1 or own == [f"{PREFIX}{MALIGNANT}"]):
        return _recognised(frame, own, known, request)
    if challenge is not None:
        found = {name: column for column, name in challenge.classes.items() if column in frame}
    else:
        found = _recognised(frame, others, known, request)
        found = {MALIGNANT: TARGET} if not found and TARGET in others else found
    if found == {MALIGNANT: TARGET} and not _is_numeric(frame[TARGET]):
        found = {}  # the names of the true classes
    _refuse_true_classes(frame, found, others, request.predictions.name, known)
    return found


def label_column(frame: pd.DataFrame, request: ImportRequest) -> str:
    """Returns the column with the predicted class: that of `columns=`, or one with a recognised name.

    Raises:
        DataError: there is none.
    """
    if "prediction" in request.columns:
        return request.columns["prediction"]
    lowered = {plain_column(column): str(column) for column in frame.columns}
    found = next((lowered[name] for name in _PREDICTED if name in lowered), None)
    if found is None:
        raise DataError(
            f"expected a column for each class, or one with the predicted class, in {request.predictions.name}, got "
            f"{', '.join(map(str, frame.columns))}; name them with columns='{{CLASS: COLUMN, ...}}' or "
            f"columns='{{prediction: COLUMN}}'"
        )
    return found


def _chosen_columns(given: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Class -> column, as `columns=` names them.

    Raises:
        ConfigError: two names mean the same class, or a column is that of two classes.
    """
    found: dict[str, str] = {}
    for name, column in given.items():
        code = class_of(name, known) or name
        if code in found or column in found.values():
            what = f"{code} twice" if code in found else f"the column {column} twice"
            raise ConfigError(f"expected each class and each column once in columns=, got {what}; leave one out")
        found[code] = column
    return found


def _recognised(
    frame: pd.DataFrame, columns: Sequence[str], known: Collection[str], request: ImportRequest
) -> dict[str, str]:
    """Class -> column, by the names of the numeric ones of `columns`."""
    found: dict[str, str] = {}
    for column in columns:
        name = _class_in(column, known) or (column.removeprefix(PREFIX) if column.startswith(PREFIX) else None)
        if name is None or not _is_numeric(frame[column]):
            continue
        if name in found:
            raise DataError(
                f"expected one column for each class in {request.predictions.name}, but {found[name]} and {column} "
                f"are both {name}; choose with columns='{{{name}: {column}, ...}}'"
            )
        found[name] = column
    return found


def _class_in(column: str, known: Collection[str]) -> str | None:
    """The class that the name of a column is, also after a word such as `prob_`; None without one."""
    return class_of(column, known) or class_of(_BEFORE.sub("", column), known)


def _refuse_true_classes(
    frame: pd.DataFrame, found: Mapping[str, str], others: Sequence[str], file: str, known: Collection[str]
) -> None:
    """Refuses columns that hold 0 and 1 alone, or one of whole numbers, if further columns look like predictions: they
    are the true classes, or their numbers.

    Raises:
        DataError: they are refused.
    """
    columns = list(found.values())
    if not columns or any(_BEFORE.match(column) for column in columns):
        return
    numbers = frame[columns].apply(as_numbers)
    are_empty = numbers.isna()  # the true classes of test images, in a table of all images
    are_binary = bool(((numbers == 0) | (numbers == 1) | are_empty).to_numpy().all())
    if not (are_binary or (len(columns) == 1 and ((numbers % 1 == 0) | are_empty).to_numpy().all())):
        return
    scores = [column for column in others if column not in columns and _looks_predicted(column, frame[column])]
    if not scores:
        return
    by_class = {_class_in(column, known): column for column in scores if _is_numeric(frame[column])}
    if found.keys() <= by_class.keys():
        named = ", ".join(f"{name}: {by_class[name]}" for name in sorted(found))
    elif set(found) == {MALIGNANT} and are_binary and _is_numeric(frame[scores[0]]):
        named = f"{MALIGNANT}: {scores[0]}"
    else:
        is_label = plain_column(scores[0]) in _PREDICTED or not _is_numeric(frame[scores[0]])
        named = f"prediction: {scores[0]}" if is_label else "CLASS: COLUMN, ..."
    own = f"{next(iter(found))}: {columns[0]}{', ...' * (len(found) > 1)}"
    values = "0 and 1" if are_binary else "whole numbers"
    raise DataError(
        f"expected predictions in the columns of the classes ({', '.join(columns)}) of {file}, got {values} alone "
        f"beside {', '.join(scores)}, as if they were the true classes; name the columns of the predictions with "
        f"columns='{{{named}}}', or with columns='{{{own}}}' if the predictions are {values}"
    )


def _looks_predicted(column: str, values: pd.Series) -> bool:
    """Whether a column has the name of predictions, or holds fractions from 0 to 1."""
    if plain_column(column).endswith(_WEIGHT):
        return False
    if plain_column(column) in _PREDICTED:
        return True
    numbers = as_numbers(values).dropna()
    if not _is_numeric(values):
        return False
    return bool(_SCORES.search(column)) or bool(numbers.between(0, 1).all() and (numbers % 1 != 0).any())


def _is_numeric(values: pd.Series) -> bool:
    """Whether most cells are numbers, so that a column `malignant` of remarks is no class."""
    return bool(as_numbers(values).notna().mean() > 0.5)
