"""The table of a data set, with one row per image, and the functions with which readers build it.

| column | content |
|---|---|
| `row_id` | unique name of the row (the image's id, unless rows were resampled) |
| `image_id` | unique name of the image |
| `image_path` | locator of the image (see `lesion_exp.image_file`) |
| `label` | class name, a code of `lesion_exp.taxonomy` |
| `lesion_id`, `patient_id` | the ids that must stay together in a split; None if unknown |
| `mask_path` | locator of the lesion mask; None if there is none |
| `age` | years; NaN if unknown |
| `sex`, `site` | text in lower case; `unknown` if unknown |
| `source` | name of the data set |

The data set's own columns follow. Two of them mean the same in all data sets: `official_split` (`train`, `val` or
`test`) and `clinical_path` (locator of the clinical photograph that belongs to a dermoscopic image). Columns that
reveal the label (how it was confirmed, how it was treated) have the prefix `leaks_`. They are useful for filters and
audits, but never for a model.

`INTERNAL_NAMES` are the names that this software gives to columns, here and in later steps. `named_columns` renames any
other column with such a name to `file_NAME`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.missing_values import is_missing, known_ages, known_ids, known_sexes, known_texts
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases
from lesion_exp.text_table import normal_text, typed

log = logging.getLogger(__name__)

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
UNLABELLED: Final = "unlabelled"
"""The label of an image that has none, if labels are not needed."""
LEAKS: Final = "leaks_"
PREDICTED: Final = "p_"
INTERNAL_NAMES: Final = frozenset(
    {
        *STANDARD_COLUMNS,
        *("raw_label", "source_label", "shared_image_id", "official_split", "clinical_path"),  # of readers
        *("diagnosis", "sha256", "phash", "thumbnail", "copy_id"),  # of the task and the image store
        *("group", "split", "fold", taxonomy.IS_UNKNOWN),  # of the split
        *(taxonomy.PSEUDO_RUN, "pseudo_confidence", "sample_weight"),  # of pseudo-labels
        *(
            "prediction",
            "energy",
            "given_label",
            "labels_only",
            "rescaled",
        ),  # of predictions tables, which also have a column `p_<class>` for each class
    }
)
"""Names of columns that this software writes."""
OFFICIAL_PARTS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Common names of the parts of a split -> their names in `official_split`."""
_PATHS: Final = ("image_path", "mask_path", "clinical_path")


def standardize(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Returns the table of a data set: the standard columns in their order and with their types, then its own columns.

    `missing_values` decides which ids, ages and sexes are missing. Numbers and truth values as labels become texts.
    Rows with duplicate ids, without a file or with an unknown label stay in the table; `loading` reports them.

    Args:
        frame: a table with `image_id` and `label`; other standard columns are added as unknown if they are absent.
        source: name of the data set.

    Raises:
        DataError: the table is empty, has no `image_id` or `label`, or a column of paths has something else.
    """
    if missing := [name for name in ("image_id", "label") if name not in frame.columns]:
        raise DataError(
            f"expected the columns image_id and label in the frame that the reader of {source} standardizes, but it "
            f"has no {' and no '.join(missing)}, only {', '.join(map(str, frame.columns))}; name them with "
            f"frame.rename(columns={{...}}), or labels with map_labels"
        )
    if frame.empty:
        raise DataError(f"expected at least one image of {source}, got an empty table; look at dataset.root")
    table = frame.reset_index(drop=True).copy()
    table["image_id"] = _stripped(table["image_id"])
    table["row_id"] = table["image_id"]
    table["label"] = _class_names(table["label"])
    table["source"] = source
    for column in _PATHS:
        if column in table:
            table[column] = _locators(table[column], source)
        elif column in STANDARD_COLUMNS:
            table[column] = pd.Series([None] * len(table), dtype=object)
    for column in ("lesion_id", "patient_id"):
        table[column] = known_ids(table[column], f"{column} of {source}") if column in frame else None
    table["age"] = known_ages(table["age"], f"age of {source}") if "age" in table else float("nan")
    table["sex"] = known_sexes(table["sex"], f"sex of {source}", UNKNOWN) if "sex" in table else UNKNOWN
    table["site"] = known_texts(table["site"]).fillna(UNKNOWN).str.lower() if "site" in table else UNKNOWN
    own = [column for column in table.columns if column not in STANDARD_COLUMNS]
    return table[[*STANDARD_COLUMNS, *own]]


def _locators(paths: pd.Series, source: str) -> pd.Series:
    """Returns paths as texts, as they are on the disk; None where there is none.

    Raises:
        DataError: a cell is neither a path nor missing.
    """
    texts = [os.fspath(path) if isinstance(path, os.PathLike) else path for path in paths]
    strange = [path for path in texts if not isinstance(path, str) and not _is_nothing(path)]
    if strange:
        raise DataError(
            f"expected paths (text) or None in the column {paths.name} of the frame that the reader of {source} "
            f"standardizes, got {strange[0]!r} ({type(strange[0]).__name__}); write str(path) for each image"
        )
    return pd.Series([path if isinstance(path, str) and path else None for path in texts], dtype=object)


def _class_names(labels: pd.Series) -> pd.Series:
    """Returns `labels` with texts in place of numbers and truth values (1.0 is 1), which are no names of classes."""
    if not any(_is_value(label) for label in labels):
        return labels
    texts: list[Any] = []
    for label in labels:
        is_whole = isinstance(label, (float, np.floating)) and float(label).is_integer()
        texts.append(str(int(label) if is_whole else label) if _is_value(label) else label)
    return pd.Series(texts, index=labels.index, dtype=object)


def _is_value(label: Any) -> bool:
    """Returns whether `label` is a number or a truth value."""
    return isinstance(label, (int, float, np.number, np.bool_)) and not _is_nothing(label)


def _is_nothing(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def named_columns(
    frame: pd.DataFrame,
    where: str,
    needed: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
    made: Iterable[str] = (),
    prefixes: tuple[str, ...] = (PREDICTED, LEAKS),
) -> pd.DataFrame:
    """Renames the columns of a file to the names that a reader uses, and avoids collisions with all other columns.

    The columns in `needed` and `optional` stay texts. All others are converted by `typed`. Those with a reserved name
    (internal, used by the reader, in `made`, or with one of `prefixes`) are renamed to `file_NAME`, which is logged.

    Args:
        frame: a table of texts, from `text_table.read_csv`.
        where: the file, for messages.
        needed: column in the file -> name in the table, for columns that must exist.
        optional: the same for columns that are used if they exist.
        made: further names that the reader gives to columns later.
        prefixes: prefixes of reserved names.

    Raises:
        DataError: a needed column is missing.
    """
    require_columns(frame, needed, where)
    used = {**needed, **{name: ours for name, ours in (optional or {}).items() if name in frame.columns}}
    taken = {*INTERNAL_NAMES, *used.values(), *made}
    renamed = dict(used)
    for name in frame.columns:
        if name not in used and (name in taken or name.startswith(prefixes)):
            renamed[name] = _free_name(name, {*frame.columns, *taken, *renamed.values()})
    moved = [f"{name} as {ours}" for name, ours in renamed.items() if name not in used]
    if moved:
        record_finding(
            f"{where} has further columns whose names have another meaning in this software; they are kept under other "
            f"names: {', '.join(moved)}"
        )
    names = [str(name) for name in frame.columns]
    columns = {renamed.get(name, name): frame[name] if name in used else typed(frame[name]) for name in names}
    others = {name: columns[renamed.get(name, name)] for name in names if name not in used}
    commas = [name for name, read in others.items() if _had_commas(frame[name], read)]
    if commas:
        record_finding(f"{where} has decimal commas in these columns, which are read as numbers: {', '.join(commas)}")
    return pd.DataFrame(columns, index=frame.index)


def _had_commas(texts: pd.Series, read: pd.Series) -> bool:
    """Whether `read` has the numbers of `texts` with commas."""
    were_texts = read.dtype.kind in "if" and texts.dtype.kind not in "if"
    return were_texts and bool(texts.str.contains(",", regex=False, na=False).any())


def _free_name(name: str, taken: Collection[str]) -> str:
    free = f"file_{name}"
    while free in taken:
        free = f"file_{free}"
    return free


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    """Checks that `frame`, read from the file `where`, has all `columns`.

    Raises:
        DataError: some columns are missing.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        known = list(map(str, frame.columns))
        first = missing[0]
        alike = [name for name in known if name.lower() == first.lower()]
        hint = f"; rename {alike[0]!r} to {first!r}" if alike else did_you_mean(first, known)
        raise DataError(
            f"expected the columns {', '.join(missing)} in {where}, got "
            f"{', '.join(known)}{hint or '; check that it is the right file'}"
        )


def map_labels(frame: pd.DataFrame, column: str, codes: Mapping[str, str], *, names: bool = True) -> pd.DataFrame:
    """Returns `frame` with the columns `label` (the class, None if unknown) and `raw_label` (the text of the file).

    Upper and lower case, outer blanks and the number of inner blanks are ignored. If all labels are whole numbers, 1.0
    is 1. `loading` reports rows without a label, or leaves them out on request.

    Args:
        frame: the table.
        column: the column with the labels of the file.
        codes: label in the file -> class.
        names: whether a label that `codes` does not have may be a name of one of the classes in `codes` (`Melanoma`:
            mel), or of a diagnosis that belongs to one of them (`Actinic keratoses`: akiec). The log says which.
    """
    lowered = {as_label(key): code for key, code in codes.items()}
    raw = _stripped(frame[column])
    short = _without_decimals(raw)
    mapping = {name: lowered.get(as_label(name)) or lowered.get(whole) for name, whole in zip(raw, short, strict=True)}
    for name in [name for name, code in mapping.items() if code is None and names]:
        code = taxonomy.map_label(known, set(codes.values())) if (known := taxonomy.code_of(name)) else None
        if code is not None:
            mapping[name] = code
            record_finding(f"{(raw == name).sum()} rows with the label {name!r} count as {code}")
    labels = [mapping[name] for name in raw]
    return frame.assign(raw_label=raw, label=pd.Series(labels, index=frame.index, dtype=object))


def named_labels(labels: Mapping[str, str | None], found: Sequence[str]) -> dict[str, str]:
    """Returns `labels`, the value of `dataset.labels`, as texts, without those that map to None.

    Labels that are not among those that were `found` are warned of.

    Raises:
        ConfigError: a label or class is not a text.
    """
    keys = config_texts(labels, "dataset.labels")
    known = {
        key: config_texts([code], f"dataset.labels.{key}")[0]
        for key, code in zip(keys, labels.values(), strict=True)
        if code is not None
    }
    absent = sorted({as_label(key) for key in keys} - {as_label(name) for name in found})
    if absent:
        log.warning("dataset.labels names labels that the data set does not have: %s", ", ".join(map(repr, absent)))
    return known


def as_label(name: str) -> str:
    """Returns `name` in lower case and the Unicode normal form NFC, with single blanks, as labels are compared."""
    return " ".join(normal_text(name).lower().split())


def _without_decimals(texts: pd.Series) -> pd.Series:
    """Removes `.0` from texts of numbers if all of them that are not empty end in it, as some programs write them."""
    known = texts[texts != ""]
    return texts.str.replace(r"\.0+$", "", regex=True) if known.str.fullmatch(r"-?\d+\.0+").all() else texts


def config_texts(values: Iterable[Any], key: str) -> list[str]:
    """Returns the values of the config key `key` as normalised texts; whole numbers become their digits.

    Raises:
        ConfigError: a value is of another type, such as the truth values that YAML makes of no, off, yes and on.
    """
    texts = []
    for value in values:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ConfigError(
                f"expected names (text) in {key}, got {value!r}; without quotes, YAML does not read no, off, yes, on, "
                f"null and decimal numbers as text: put quotes around the name ('no')"
            )
        texts.append(normal_text(str(value)))
    return texts


def mark_leaks(frame: pd.DataFrame, *patterns: str) -> pd.DataFrame:
    """Returns `frame` with the prefix `leaks_` on the columns whose names match one of `patterns` (`iddx_*`)."""
    hits = [column for column in frame.columns if any(fnmatchcase(str(column), pattern) for pattern in patterns)]
    return frame.rename(columns={column: f"{LEAKS}{column}" for column in hits})


def one_hot_label(frame: pd.DataFrame, columns: Iterable[str], where: str) -> pd.Series:
    """Returns for each row the name of the column that holds the 1.

    `true` is 1; `false` and missing cells are 0. Other numbers are rounded at 0.5, with a warning.

    Args:
        frame: the table.
        columns: the one-hot columns.
        where: the file, for messages.

    Raises:
        DataError: a row has no 1 or several, or a cell is not a number.
    """
    names = list(columns)
    cells = frame[names].astype(object)
    words = cells.map(lambda cell: "" if pd.isna(cell) else normal_text(str(cell)).lower().replace(",", "."))
    words = words.replace({"true": "1", "false": "0", "": "0"})
    words = words.mask(words.map(is_missing), "0")
    numbers = words.apply(pd.to_numeric, errors="coerce")
    hot = numbers > 0.5
    bad = (hot.sum(axis=1) != 1) | numbers.isna().any(axis=1)
    if bad.any():
        shown = cells[bad].head(5).fillna("")
        cases = [
            f"row {position + 1}: {', '.join(map(str, row))}"
            for position, row in zip(bad.to_numpy().nonzero()[0], shown.itertuples(index=False), strict=False)
        ]
        raise DataError(
            f"expected one 1 and otherwise 0 among {', '.join(names)} in every row of {where}, but {bad.sum():,} rows "
            f"differ:\n{first_cases(cases)}\ncorrect these cells of the table"
        )
    soft = int((~numbers.isin((0, 1))).to_numpy().sum())
    if soft:
        record_finding(
            f"{soft:,} cells of {', '.join(names)} in {where} are neither 0 nor 1; values above 0.5 count as 1",
            level="warning",
        )
    named: pd.Series = hot.idxmax(axis=1)
    return named


def _stripped(values: pd.Series) -> pd.Series:
    """Returns normalised texts without outer blanks; missing values become empty texts."""
    texts = ["" if pd.isna(value) else normal_text(str(value)) for value in values]
    return pd.Series(texts, index=values.index, dtype=str)


@dataclass(frozen=True)
class DatasetInfo:
    """Name, citation, licence, download and published counts of a data set; shown by `prepare`, logged with runs."""

    name: str
    title: str
    citation: str
    licence: str
    where: str
    """The web page or DOI, and the names of the files to download."""
    view: str | None = None
    """What its photographs are: dermoscopic, clinical, both, or other words; None if that is not known."""
    archive: str | None = None
    """The archive that issued the ids of images, lesions and patients; data sets of one archive share ids."""
    published_counts: Mapping[str, int] = field(default_factory=dict)
    """Published number of images per class, for the reader's default arguments; empty if none was published."""
    published_for: Callable[..., Mapping[str, int]] | None = None
    """A function from the reader's keyword arguments to the published counts; None if the arguments do not matter."""

    def counts_for(self, arguments: Mapping[str, object]) -> Mapping[str, int]:
        """Returns the published images per class for these arguments of the reader; empty if none were published."""
        return self.published_counts if self.published_for is None else self.published_for(**arguments)
