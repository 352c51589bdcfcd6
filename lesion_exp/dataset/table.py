"""The table that every data set becomes: a row an image.

| column | content |
|---|---|
| `row_id` | unique name of the row (the image's id, unless rows were resampled) |
| `image_id` | unique name of the image |
| `image_path` | locator of the image (see `lesion_exp.image_file`) |
| `label` | class name, a code of `lesion_exp.taxonomy` |
| `lesion_id`, `patient_id` | what must stay together in a split; None where unknown |
| `mask_path` | locator of the lesion mask; None where there is none |
| `age` | years; NaN where unknown |
| `sex`, `site` | `unknown` where unknown |
| `source` | name of the data set |

The set's own columns follow. Two of them have a meaning for all sets that have them: `official_split` (`train`, `val`
or `test`) and `clinical_path` (locator of the clinical photograph that belongs to a dermoscopic image). Columns that
give the label away (how it was confirmed, what was done about it) have the prefix `leaks_`: good for filters and
audits, never for a model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

import pandas as pd

from lesion_exp.errors import DataError, first_cases

_log = logging.getLogger(__name__)

STANDARD_COLUMNS: Final = (
    "row_id",
    "image_id",
    "image_path",
    "label",
    "lesion_id",
    "patient_id",
    "mask_path",
    "age",
    "sex",
    "site",
    "source",
)
UNKNOWN: Final = "unknown"
LEAKS: Final = "leaks_"
OFFICIAL_PARTS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What users call the parts of a split -> their names in `official_split`."""
_TEXT_OR_NONE: Final = ("image_path", "lesion_id", "patient_id", "mask_path", "clinical_path")
_MISSING_TEXT: Final = frozenset({"", "nan", "none", "na", "n/a", "unk", "unknown"})


def standardize(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """`frame` as a data set's table: the standard columns first, in order and with their types, then its own.

    It must have `image_id` and `label`; every other standard column is filled with "unknown" where it lacks. Doubled
    ids, missing files and unknown labels stay in it: `loading` reports them.

    Raises:
        DataError: the table is empty.
    """
    assert {"image_id", "label"} <= set(frame.columns), "a reader forgot image_id or label"
    if frame.empty:
        raise DataError(f"expected at least one image of {source}, got an empty table; look at dataset.root")
    table = frame.reset_index(drop=True).copy()
    table["image_id"] = _stripped(table["image_id"])
    table["row_id"] = table["image_id"]
    table["source"] = source
    for column in _TEXT_OR_NONE:
        if column in table:
            table[column] = _text_or_none(table[column])
        elif column in STANDARD_COLUMNS:
            table[column] = pd.Series([None] * len(table), dtype=object)
    table["age"] = _ages(table["age"], source) if "age" in table else float("nan")
    for column in ("sex", "site"):
        table[column] = _text_or_none(table[column]).fillna(UNKNOWN).str.lower() if column in table else UNKNOWN
    own = [column for column in table.columns if column not in STANDARD_COLUMNS]
    return table[[*STANDARD_COLUMNS, *own]]


def _ages(column: pd.Series, source: str) -> pd.Series:
    """Ages in years; what is no number is missing, and said unless it says so itself."""
    ages = pd.to_numeric(column, errors="coerce").astype(float)
    given = _text_or_none(column)
    unread = given[ages.isna() & given.notna()]
    if len(unread):
        _log.warning(
            "%d ages of %s are no numbers and count as missing, for example %r", len(unread), source, unread.iloc[0]
        )
    return ages


def map_labels(frame: pd.DataFrame, column: str, codes: Mapping[str, str]) -> pd.DataFrame:
    """`frame` with `label` (codes of the taxonomy, None where `codes` lacks the name) and `raw_label` (as it came).

    Case and outer blanks are ignored. Rows without a label are reported, or left out on request, by `loading`.
    """
    lowered = {key.lower(): code for key, code in codes.items()}
    raw = _stripped(frame[column])
    labels = [lowered.get(name.lower()) for name in raw]
    return frame.assign(raw_label=raw, label=pd.Series(labels, index=frame.index, dtype=object))


def mark_leaks(frame: pd.DataFrame, *patterns: str) -> pd.DataFrame:
    """`frame` with `leaks_` before the names of the columns that match one of `patterns` (`iddx_*`)."""
    hits = [column for column in frame.columns if any(fnmatchcase(str(column), pattern) for pattern in patterns)]
    return frame.rename(columns={column: f"{LEAKS}{column}" for column in hits})


def locate(ids: pd.Series, files: Mapping[str, str]) -> pd.Series:
    """The locator of each id, None where `files` (id -> locator) has none."""
    return pd.Series([files.get(str(key)) for key in ids], index=ids.index, dtype=object)


def one_hot_label(frame: pd.DataFrame, columns: Iterable[str], where: str) -> pd.Series:
    """The name of the column that holds the 1 of each row.

    Raises:
        DataError: a row has no 1, or several.
    """
    names = list(columns)
    hot = frame[names].apply(pd.to_numeric, errors="coerce") > 0.5
    bad = frame.index[hot.sum(axis=1) != 1]
    if len(bad):
        raise DataError(
            f"expected exactly one 1 a row among {', '.join(names)} in {where}, but {len(bad)} rows differ; the first "
            f"are rows\n{first_cases(bad)}"
        )
    named: pd.Series = hot.idxmax(axis=1)
    return named


def _stripped(values: pd.Series) -> pd.Series:
    """Texts without outer blanks, empty where missing."""
    texts = ["" if pd.isna(value) else str(value).strip() for value in values]
    return pd.Series(texts, index=values.index, dtype=str)


def _text_or_none(values: pd.Series) -> pd.Series:
    return pd.Series(
        [
            None if pd.isna(value) or str(value).strip().lower() in _MISSING_TEXT else str(value).strip()
            for value in values
        ],
        index=values.index,
        dtype=object,
    )
