"""Pseudo-labels: labels that a run predicted for images without one, read from a file and added to the training part.

`lesion-exp predict run=ID input=IMAGES output=FILE pseudo_labels=FILE` writes such a file, a csv or parquet:

| column | content |
|---|---|
| `image_id` | name of the image in the input |
| `image_path` | locator of the image, absolute or relative to the folder of this file |
| `label` | the predicted class |
| `confidence` | its probability |
| `run_id`, `weights_hash` | the run that predicted it, and the hash of that run's weights |
| `calibration`, `threshold` | how the probability was calibrated, and the smallest one that gives this class a label |
| `lesion_id`, `patient_id`, `age`, `sex`, `site` | as in the input, if it is a table that has them |
| `mask_path`, `clinical_path` | locators as `image_path`, of a csv that has them, or a data set whose run reads them |

Only `image_path` (or `image_id`) and `label` are needed. An image belongs to a row of the data set that has no label,
if that row has the same path, or the same id where the file has no image at that path; other images become new rows.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.archive import file_of
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.path_patterns import as_value
from lesion_exp.dataset.row_filter import filter_rows
from lesion_exp.dataset.table import standardize
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases
from lesion_exp.taxonomy import PSEUDO_RUN, PSEUDO_SOURCE, malignancy
from lesion_exp.text_table import EMPTY_WORDS, read_csv

WEIGHT: Final = "sample_weight"
"""Column with how much an image counts in the loss."""
UNKNOWN_RUN: Final = "unknown"
CONFIDENCE: Final = "pseudo_confidence"
KEPT: Final = ("confidence", "run_id", "weights_hash", "calibration", "threshold")
"""Columns of a file about the origin of its labels."""
_COMPANIONS: Final = ("mask_path", "clinical_path")
_OF_TABLE: Final = ("lesion_id", "patient_id", "age", "sex", "site", *_COMPANIONS)
BINARY: Final = ("malignant", "benign")
"""Classes of task.target=malignant."""


@dataclass(frozen=True)
class PseudoOptions:
    """The keys of `conf/dataset/base.yaml` about pseudo-labels."""

    pseudo_labels: str | None = None
    pseudo_weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: a value is of the wrong type or out of range.
        """
        if self.pseudo_labels is not None and not isinstance(self.pseudo_labels, str):
            raise ConfigError(
                f"expected a file for dataset.pseudo_labels, got {self.pseudo_labels!r}; set dataset.pseudo_labels=FILE"
            )
        weight = self.pseudo_weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ConfigError(
                f"expected dataset.pseudo_weight of at least 0, got {weight!r}; with 1 such an image counts as much as "
                f"one with a label"
            )
        if self.pseudo_labels is None and weight != 1:
            raise ConfigError(
                f"expected dataset.pseudo_labels=FILE beside dataset.pseudo_weight={weight}, got none; lesion-exp "
                f"predict run=ID input=IMAGES output=FILE pseudo_labels=FILE writes one"
            )

    @property
    def are_used(self) -> bool:
        """Whether pseudo-labels are used; a run with the weight 0 is the same as a run without them."""
        return self.pseudo_labels is not None and self.pseudo_weight > 0


def pseudo_rows(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Returns which rows of `table` have a pseudo-label, bool (N,)."""
    if PSEUDO_RUN not in table:
        return np.zeros(len(table), dtype=bool)
    return table[PSEUDO_RUN].notna().to_numpy(dtype=bool)


def without_pseudo(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of `table` whose label was given by a person."""
    return table[~pseudo_rows(table)] if PSEUDO_RUN in table else table


def read_pseudo_labels(path: Path) -> pd.DataFrame:
    """Reads a file of pseudo-labels, with absolute paths; columns that it lacks are missing values.

    Raises:
        DataError: the file or a column is missing, a label is empty, or an image is named twice.
    """
    if not path.is_file():
        raise DataError(
            f"expected a file of pseudo-labels at dataset.pseudo_labels, but there is none at {path}; correct the path"
        )
    frame = _read(path)
    key = next((name for name in ("image_path", "image_id") if name in frame), None)
    if key is None or "label" not in frame:
        raise DataError(
            f"expected the columns image_path (or image_id) and label in {path}, got {', '.join(map(str, frame))}; "
            f"lesion-exp predict ... pseudo_labels=FILE writes such a file"
        )
    frame = frame.reindex(columns=["image_id", "image_path", "label", *KEPT, *(c for c in _OF_TABLE if c in frame)])
    names = frame[key].astype(object).where(frame[key].notna(), None)
    cases = [f"row {row + 1}: no {key}" for row in np.flatnonzero(names.isna())]
    cases += [f"{name}: no label" for name in names[frame["label"].isna()]]
    cases += [f"{name}: twice" for name in names[names.duplicated() & names.notna()]]
    if cases or frame.empty:
        raise DataError(
            f"expected each image once, with a label, in {path}, got\n{first_cases(cases or ['no row'])}\ncorrect the "
            f"file"
        )
    if key == "image_path":
        frame["image_path"] = [_absolute(str(locator), path.parent) for locator in frame["image_path"]]
        stems = pd.Series([str(Path(locator).with_suffix("")) for locator in frame["image_path"]], index=frame.index)
        frame["image_id"] = frame["image_id"].where(frame["image_id"].notna(), stems).astype(str)
    for name in _COMPANIONS:
        if name in frame:
            found = [_absolute(at, path.parent) if isinstance(at, str) and at else None for at in frame[name]]
            frame[name] = pd.Series(found, index=frame.index, dtype=object)
    frame["run_id"] = frame["run_id"].where(frame["run_id"].notna(), UNKNOWN_RUN).astype(str)
    return frame.assign(label=frame["label"].astype(str))


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() != ".parquet":
        return read_csv(str(path))
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a table of pseudo-labels at {path}, but it cannot be read: {error}; write the file again"
        ) from error


def _absolute(locator: str, folder: Path) -> str:
    return os.path.normpath(folder.absolute() / locator)


class PseudoLabels:
    """The pseudo-labels of a job, which removes the rows without a label from a data set and adds them with labels.

    Args:
        options: the file and the weight.
    """

    def __init__(self, options: PseudoOptions) -> None:
        assert options.pseudo_labels is not None, "only a job with pseudo-labels has them"
        self.path = Path(options.pseudo_labels).expanduser()
        self.weight = float(options.pseudo_weight)
        self.given = read_pseudo_labels(self.path)
        self.left_out: dict[str, int] = {}
        """Reason -> images without a label, or with a pseudo-label that is not used."""
        self._rows = pd.DataFrame()

    def separate(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table` without the rows that have no label; `append` adds those of them that the file names."""
        bare = _without_label(table)
        named = self._named(table)
        matched = named >= 0
        self._count("neither the data set nor the file has a label for them", int((bare & ~matched).sum()))
        self._count("they have a label already", int((~bare & matched).sum()))
        used = bare & matched
        rows = table[used]
        own = self.given.iloc[named[used]].set_axis(rows.index)
        taken = set(named[matched])
        others = self.given.iloc[[row for row in range(len(self.given)) if row not in taken]]
        parts = [self._labelled(rows, own), self._labelled(*self._new_rows(others))]
        self._rows = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        return table[~bare]

    def _named(self, table: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Returns for each row of `table` the row of the file that names its image, or -1."""
        paths = {str(locator): row for row, locator in enumerate(self.given["image_path"]) if isinstance(locator, str)}
        moved = {
            str(name): row
            for row, (name, locator) in enumerate(zip(self.given["image_id"], self.given["image_path"], strict=True))
            if not isinstance(locator, str) or not os.path.isfile(file_of(locator))  # noqa: PTH113 - of any length
        }
        found = [
            paths.get(os.path.normpath(str(locator)) if isinstance(locator, str) else "", moved.get(str(name), -1))
            for locator, name in zip(table["image_path"], table["image_id"], strict=True)
        ]
        return np.asarray(found, dtype=np.int64)

    def _new_rows(self, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        there = np.array(
            [isinstance(at, str) and os.path.isfile(file_of(at)) for at in given["image_path"]],  # noqa: PTH113
            dtype=bool,
        )
        if not there.all():
            lost = given.loc[~there, "image_id"]
            raise DataError(
                f"expected the images of {self.path}, but {len(lost):,} of {len(self.given):,} are neither files nor "
                f"rows of the data set without a label:\n{first_cases(lost)}\nput them where they were when the file "
                f"was written, or write it again: lesion-exp predict run=ID input=IMAGES output=FILE pseudo_labels=FILE"
            )
        if given.empty:
            return pd.DataFrame(), given
        known = given.drop(columns=[*KEPT]).assign(image_id=_unique_ids(given))
        return standardize(known, PSEUDO_SOURCE).set_axis(given.index), given

    def _labelled(self, rows: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
        if rows.empty:
            return rows
        confidence = pd.to_numeric(given["confidence"], errors="coerce")
        return rows.assign(label=given["label"], **{PSEUDO_RUN: given["run_id"], CONFIDENCE: confidence})

    def _count(self, reason: str, count: int) -> None:
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count

    def append(self, table: pd.DataFrame, chosen: str | None, target: str = "diagnosis") -> pd.DataFrame:
        """Returns `table` followed by the rows with pseudo-labels.

        Args:
            table: the rows that people labelled.
            chosen: `dataset.filter`. It applies to those of the other rows that belong to the data set.
            target: `task.target`. For `malignant`, a pseudo-label may be any diagnosis that is malignant or benign.

        Raises:
            DataError: a pseudo-label is of no use for the target, or no row is left.
        """
        rows = self._rows
        own = rows[rows["source"] != PSEUDO_SOURCE] if len(rows) else rows
        if chosen and len(own):
            kept = filter_rows(own, chosen)
            self._count("dataset.filter leaves them out", len(own) - len(kept))
            rows = pd.concat([kept, rows[rows["source"] == PSEUDO_SOURCE]], ignore_index=True)
        part = rows["official_split"] if "official_split" in rows else pd.Series(None, index=rows.index, dtype=object)
        evaluated = part.isin(["val", "test"])
        self._count("the data set's own validation or test part has them", int(evaluated.sum()))
        rows = rows[~evaluated]
        self._check_classes(set(map(str, rows["label"])) if len(rows) else set(), set(map(str, table["label"])), target)
        for reason, count in self.left_out.items():
            record_finding(f"pseudo-labels: {count:,} images are left out: {reason}")
        if rows.empty:
            raise DataError(
                f"expected images without a label in {self.path}, but all {len(self.given):,} are left out; leave "
                f"dataset.pseudo_labels out"
            )
        rows = rows.drop(columns=[name for name in rows if name not in table and name not in (PSEUDO_RUN, CONFIDENCE)])
        joined = pd.concat([table.assign(**{PSEUDO_RUN: None, CONFIDENCE: np.nan}), rows], ignore_index=True)
        joined = joined.astype({PSEUDO_RUN: object})
        joined[PSEUDO_RUN] = joined[PSEUDO_RUN].where(joined[PSEUDO_RUN].notna(), None)
        for column in ("official_split", "clinical_path", "mask_path", "lesion_id", "patient_id"):
            if column in joined:
                joined[column] = joined[column].astype(object).where(joined[column].notna(), None)
        return joined.assign(**{WEIGHT: np.where(joined[PSEUDO_RUN].notna(), self.weight, 1.0)})

    def _check_classes(self, given: set[str], classes: set[str], target: str) -> None:
        strange = sorted(given - classes - set(BINARY))
        if target == "malignant":
            strange = [label for label in strange if malignancy(label) is None]
        if not strange:
            return
        others = dict.fromkeys(sorted(given - set(strange)), 0.9)
        fewer = f", or for the other labels alone with 'threshold={as_value(others)}' of predict" if others else ""
        also = ", or diagnoses that are malignant or benign" if target == "malignant" else ""
        raise DataError(
            f"expected pseudo-labels among the classes of the data set, {', '.join(sorted(classes))}{also}, got "
            f"{', '.join(strange)} in {self.path}; write the file again with a run of these classes{fewer}"
            f"{did_you_mean(strange[0], classes)}"
        )

    def facts(self) -> dict[str, Any]:
        """Returns the origin of the labels as plain values: digest of the file, runs, calibrations and thresholds."""
        thresholds = self.given.dropna(subset=["threshold"]).drop_duplicates("label").set_index("label")["threshold"]
        return {
            "file": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()[:16],
            "weight": self.weight,
            "in_file": len(self.given),
            **{name: _distinct(self.given[name]) for name in ("run_id", "weights_hash", "calibration")},
            "thresholds": {str(name): float(value) for name, value in sorted(thresholds.items())},
            "left_out": dict(self.left_out),
        }


def _unique_ids(given: pd.DataFrame) -> pd.Series:
    """Returns an id for each image. Images of one name get the ending of their file too (`1.jpg` and `1.png`), and a
    number if that is the same as well.
    """
    ids = pd.Series([f"{PSEUDO_SOURCE}/{name}" for name in given["image_id"]], index=given.index, dtype=object)
    endings = pd.Series([Path(str(at)).suffix for at in given["image_path"]], index=given.index, dtype=object)
    ids = ids.where(~ids.duplicated(keep=False), ids + endings)
    number = ids.groupby(ids).cumcount() + 1
    return ids.where(number == 1, ids + "#" + number.astype(str))


def _distinct(values: pd.Series) -> list[str]:
    return sorted(set(map(str, values.dropna())))


def _without_label(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Returns which rows have no label at all; a label of unknown meaning is a label."""
    bare = table["label"].isna()
    if "raw_label" in table:
        raw = table["raw_label"].fillna("").astype(str).str.strip().str.lower()
        bare &= raw.isin({"", *(word.lower() for word in EMPTY_WORDS)})
    return bare.to_numpy(dtype=bool)
