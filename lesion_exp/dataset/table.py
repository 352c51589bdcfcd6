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

The names that this software gives to columns, here and in later steps, are `INTERNAL_NAMES`. A column of the file that
has such a name without being what it means is kept as `file_NAME`; `named_columns` is the one place that sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.missing_values import is_missing, known_ages, known_ids, known_sexes, known_texts
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases
from lesion_exp.text_table import normal_text, typed

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
PREDICTED: Final = "p_"
INTERNAL_NAMES: Final = frozenset(
    {
        *STANDARD_COLUMNS,
        *("raw_label", "source_label", "shared_image_id", "official_split", "clinical_path"),  # of readers
        *("diagnosis", "sha256", "phash", "thumbnail"),  # of the task and the image store
        *("group", "split", "fold", taxonomy.IS_UNKNOWN),  # of the split
        *("prediction", "energy", "is_unknown"),  # of predictions tables, with one column `p_<class>` a class
    }
)
"""Names of columns that some step of this software writes."""
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
_PATHS: Final = ("image_path", "mask_path", "clinical_path")


def standardize(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """`frame` as a data set's table: the standard columns first, in order and with their types, then its own.

    It must have `image_id` and `label`; every other standard column is filled with "unknown" where it lacks. What
    stands for a missing id, age or sex is decided by `missing_values`. Doubled ids, missing files and unknown labels
    stay in it: `loading` reports them.

    Raises:
        DataError: the table is empty, or has no `image_id` or `label`.
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
    table["source"] = source
    for column in _PATHS:
        if column in table:
            found = [path if isinstance(path, str) and path else None for path in table[column]]  # as on the disk
            table[column] = pd.Series(found, dtype=object)
        elif column in STANDARD_COLUMNS:
            table[column] = pd.Series([None] * len(table), dtype=object)
    for column in ("lesion_id", "patient_id"):
        table[column] = known_ids(table[column], f"{column} of {source}") if column in frame else None
    table["age"] = known_ages(table["age"], f"age of {source}") if "age" in table else float("nan")
    table["sex"] = known_sexes(table["sex"], f"sex of {source}", UNKNOWN) if "sex" in table else UNKNOWN
    table["site"] = known_texts(table["site"]).fillna(UNKNOWN).str.lower() if "site" in table else UNKNOWN
    own = [column for column in table.columns if column not in STANDARD_COLUMNS]
    return table[[*STANDARD_COLUMNS, *own]]


def named_columns(
    frame: pd.DataFrame,
    where: str,
    needed: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
    made: Iterable[str] = (),
    prefixes: tuple[str, ...] = (PREDICTED, LEAKS),
) -> pd.DataFrame:
    """`frame` (of texts) with the columns that a reader uses under its own names, and all others out of the way.

    The columns in `needed` and `optional` (name in the file -> name here) stay texts. All others are `typed`, and those
    with a name that is taken (internal, used, in `made`, or beginning with one of `prefixes`) are kept as `file_NAME`,
    which the log says.

    Args:
        frame: from `text_table.read_csv`.
        where: the file, for messages.
        needed: the columns that must be there.
        optional: the columns that are used where they are there.
        made: further names that the reader gives to columns later.
        prefixes: beginnings of names that are taken.

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
            f"{where} has columns that are none of this data set and whose names have another meaning here; they are "
            f"kept under other names: {', '.join(moved)}"
        )
    names = [str(name) for name in frame.columns]
    columns = {renamed.get(name, name): frame[name] if name in used else typed(frame[name]) for name in names}
    return pd.DataFrame(columns, index=frame.index)


def _free_name(name: str, taken: Collection[str]) -> str:
    free = f"file_{name}"
    while free in taken:
        free = f"file_{free}"
    return free


def require_columns(frame: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    """Checks that `frame` has all `columns`.

    Raises:
        DataError: some are missing; the message lists them and what is there.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        known = list(map(str, frame.columns))
        first = missing[0]
        alike = [name for name in known if name.lower() == first.lower()]
        hints = [f"rename {alike[0]!r} to {first!r};" if alike else did_you_mean(first, known).removeprefix("; ")]
        raise DataError(
            f"expected the columns {', '.join(missing)} in {where}, got {', '.join(known)}; "
            f"{' '.join([*filter(None, hints), 'is it the file of this data set, unchanged?'])}"
        )


def map_labels(frame: pd.DataFrame, column: str, codes: Mapping[str, str], *, names: bool = True) -> pd.DataFrame:
    """`frame` with `label` (codes of the taxonomy, None where `codes` lacks the name) and `raw_label` (as it came).

    Case, outer blanks and the number of inner ones are ignored; where all labels are whole numbers, 1.0 is 1. With
    `names`, a label that `codes` lacks is taken for the code whose name it is (`Melanoma`: mel), or for the one that
    contains that diagnosis (`Actinic keratoses`: akiec), if it is one of those in `codes`; the log says so. Rows
    without a label are reported, or left out on request, by `loading`.
    """
    lowered = {_as_label(key): code for key, code in codes.items()}
    raw = _stripped(frame[column])
    short = _without_decimals(raw)
    mapping = {name: lowered.get(_as_label(name)) or lowered.get(whole) for name, whole in zip(raw, short, strict=True)}
    for name in [name for name, code in mapping.items() if code is None and names]:
        code = taxonomy.map_label(known, set(codes.values())) if (known := taxonomy.code_of(name)) else None
        if code is not None:
            mapping[name] = code
            record_finding(f"{(raw == name).sum()} rows with the label {name!r} are taken for {code}")
    labels = [mapping[name] for name in raw]
    return frame.assign(raw_label=raw, label=pd.Series(labels, index=frame.index, dtype=object))


def _as_label(name: str) -> str:
    return " ".join(normal_text(name).lower().split())


def _without_decimals(texts: pd.Series) -> pd.Series:
    """Texts of numbers without `.0`, where all that are not empty are whole numbers, as some programs save them."""
    known = texts[texts != ""]
    return texts.str.replace(r"\.0+$", "", regex=True) if known.str.fullmatch(r"-?\d+\.0+").all() else texts


def config_texts(values: Iterable[Any], key: str) -> list[str]:
    """`values` of the config key `key` as texts in one normal form; whole numbers are texts of their digits.

    Raises:
        ConfigError: one of them is a truth value, as which YAML reads the words no, off, yes and on.
    """
    texts = []
    for value in values:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ConfigError(
                f"expected names (text) in {key}, got {value!r}; YAML reads no, off, yes, on, null and decimal numbers "
                f"without quotes as something else than text: put quotes around the name ('no')"
            )
        texts.append(normal_text(str(value)))
    return texts


def mark_leaks(frame: pd.DataFrame, *patterns: str) -> pd.DataFrame:
    """`frame` with `leaks_` before the names of the columns that match one of `patterns` (`iddx_*`)."""
    hits = [column for column in frame.columns if any(fnmatchcase(str(column), pattern) for pattern in patterns)]
    return frame.rename(columns={column: f"{LEAKS}{column}" for column in hits})


def one_hot_label(frame: pd.DataFrame, columns: Iterable[str], where: str) -> pd.Series:
    """The name of the column that holds the 1 of each row.

    `true` is 1, `false` and missing cells are 0. Other numbers count by whether they are above 0.5, which is said.

    Raises:
        DataError: a row has no 1, or several, or a cell is no number.
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
            f"expected exactly one 1 a row and else 0 among {', '.join(names)} in {where}, but {bad.sum():,} rows "
            f"differ:\n{first_cases(cases)}\ncorrect these cells of the table"
        )
    soft = int((~numbers.isin((0, 1))).to_numpy().sum())
    if soft:
        record_finding(
            f"{soft:,} cells of {', '.join(names)} in {where} are neither 0 nor 1; what is above 0.5 counts as 1",
            level="warning",
        )
    named: pd.Series = hot.idxmax(axis=1)
    return named


def _stripped(values: pd.Series) -> pd.Series:
    """Texts in one normal form without outer blanks, empty where missing."""
    texts = ["" if pd.isna(value) else normal_text(str(value)) for value in values]
    return pd.Series(texts, index=values.index, dtype=str)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's identity card: shown by `prepare`, logged with every run."""

    name: str
    title: str
    citation: str
    licence: str
    where: str
    """Where a user gets it: the project's page or DOI, and the names of the files to download."""
    archive: str | None = None
    """The archive that the ids of images, lesions and patients come from: sets of one archive have them in common."""
    published_counts: Mapping[str, int] = field(default_factory=dict)
    """Images a class as published, by the codes of `taxonomy`, with the reader's defaults; empty: none are."""
    published_for: Callable[..., Mapping[str, int]] | None = None
    """The published counts for other arguments of the reader, which it takes by name; None where they do not matter."""

    def counts_for(self, arguments: Mapping[str, object]) -> Mapping[str, int]:
        """Images a class as published, as the reader gives them with `arguments`; empty where none is published."""
        return self.published_counts if self.published_for is None else self.published_for(**arguments)
