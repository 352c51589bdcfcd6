"""A fingerprint of all data that a job reads, with a separate digest for each part, so that messages can name it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd

from lesion_exp.data.store import ImageStore

PSEUDO: Final = "pseudo_labels"
PARTS: Final[Mapping[str, str]] = {
    "images": "images",
    "labels": "labels",
    "ids": "ids of lesions and patients",
    "metadata": "age, sex, site or skin tone",
    "masks": "lesion masks",
    "clinical": "clinical photographs",
    "split": "split of the data set or of a file",
    PSEUDO: "pseudo-labels",
}
"""Part of the data -> its description in messages."""
TOTAL_TAG: Final = "dataset_fingerprint"
"""The tag of a run with the digest of all parts."""
PART_TAG: Final = "data."
"""Prefix of the tags of a run with the digest of one part."""
_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "images": ("sha256",),
    "labels": ("label", "diagnosis"),
    "ids": ("lesion_id", "patient_id", "source"),
    "metadata": ("age", "sex", "site", "skin_tone"),
    "split": ("official_split",),
}


@dataclass(frozen=True)
class DataFingerprint:
    """SHA-256 digests (16 hexadecimal digits) of the data in use. They do not depend on paths."""

    parts: Mapping[str, str]
    """Part of the data, a key of `PARTS` -> its digest."""
    before: str
    """The single digest of ids, labels and images that runs of earlier versions recorded."""

    @classmethod
    def of(cls, table: pd.DataFrame, store: ImageStore, split_path: str | None) -> Self:
        """Returns the fingerprint of a table, of its masks and clinical photographs, and of the file of the split.

        Args:
            table: a table with the columns of `dataset.table` and `sha256`.
            store: the image store of the table.
            split_path: the file of the split, if there is one.
        """
        rows = table.sort_values("image_id")
        parts = {part: _digest(rows, columns) for part, columns in _COLUMNS.items() if set(columns) & set(rows.columns)}
        parts |= {plane: _digest(rows.assign(**{plane: hashes}), (plane,)) for plane, hashes in _hashes(rows, store)}
        if split_path is not None and Path(split_path).is_file():
            content = hashlib.sha256(Path(split_path).read_bytes()).hexdigest()
            parts["split"] = hashlib.sha256(f"{parts.get('split', '')}{content}".encode()).hexdigest()[:16]
        return cls(parts, _digest_before(rows))

    def with_pseudo_labels(self, rows: pd.DataFrame, file: str) -> DataFingerprint:
        """Returns the fingerprint of the same data with pseudo-labelled rows. No other part changes.

        Args:
            rows: the rows, with the columns of `dataset.table` and `sha256`.
            file: the digest of the file with the labels.
        """
        columns = tuple(dict.fromkeys(name for names in _COLUMNS.values() for name in names))
        digest = hashlib.sha256(f"{_digest(rows.sort_values('image_id'), columns)}{file}".encode()).hexdigest()[:16]
        return DataFingerprint({**self.parts, PSEUDO: digest}, self.before)

    @cached_property
    def total(self) -> str:
        """The digest of all parts."""
        text = "\n".join(f"{part} {digest}" for part, digest in sorted(self.parts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def tags(self) -> dict[str, str]:
        """Returns the tags that a run records for its data."""
        return {TOTAL_TAG: self.total, **{f"{PART_TAG}{part}": digest for part, digest in self.parts.items()}}

    def known_as(self, tags: Mapping[str, str]) -> str:
        """Returns the digest that the version of the run with `tags` would have recorded for this data."""
        return self.total if parts_of(tags) else self.before

    def differences(self, tags: Mapping[str, str]) -> list[str]:
        """Returns descriptions of the parts that differ from the data of the run with `tags`; empty if none does."""
        if tags.get(TOTAL_TAG) in (self.total, *(() if PSEUDO in self.parts else (self.before,))):
            return []
        if (PSEUDO in self.parts) != (f"{PART_TAG}{PSEUDO}" in tags):
            return [*part_differences(parts_of(tags), self.parts), PARTS[PSEUDO]]
        return part_differences(parts_of(tags), self.parts) or ["data"]


def parts_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the digests of the parts from the tags of a run; empty for runs of earlier versions."""
    return {part: tags[f"{PART_TAG}{part}"] for part in PARTS if f"{PART_TAG}{part}" in tags}


def part_differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Returns descriptions of the parts that both have and that differ."""
    return [words for part, words in PARTS.items() if part in one and part in other and one[part] != other[part]]


def _hashes(rows: pd.DataFrame, store: ImageStore) -> list[tuple[str, pd.Series]]:
    found = store.companion_hashes(rows["image_id"])
    return [(str(plane), found[plane].set_axis(rows.index)) for plane in found]


def _digest(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Returns a digest of the image ids and of those of `columns` that exist; missing values are empty texts."""
    texts = [rows["image_id"].astype(str)]
    texts += [rows[column].map(_text) for column in columns if column in rows]
    digest = hashlib.sha256()
    for values in zip(*texts, strict=True):
        digest.update("\t".join(values).encode() + b"\n")
    return digest.hexdigest()[:16]


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _digest_before(rows: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for row in rows[["image_id", "label", "sha256"]].itertuples(index=False):
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()[:16]
