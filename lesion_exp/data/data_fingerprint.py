"""A fingerprint of all the data that a job reads, in parts that a message can name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd

from lesion_exp.data.store import ImageStore

PARTS: Final[Mapping[str, str]] = {
    "images": "images",
    "labels": "labels",
    "ids": "ids of lesions and patients",
    "metadata": "age, sex, site or skin tone",
    "masks": "lesion masks",
    "clinical": "clinical photographs",
    "split": "split that the data set or a file gives",
}
"""Each part and what it covers, in words."""
TOTAL_TAG: Final = "dataset_fingerprint"
PART_TAG: Final = "data."
"""Stands before the name of a part in the tags of a run."""
_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "images": ("sha256",),
    "labels": ("label", "diagnosis"),
    "ids": ("lesion_id", "patient_id", "source"),
    "metadata": ("age", "sex", "site", "skin_tone"),
    "split": ("official_split",),
}


@dataclass(frozen=True)
class DataFingerprint:
    """SHA-256 (16 digits) of each part of the data that is in use; the same wherever the files lie."""

    parts: Mapping[str, str]
    before: str
    """What runs recorded that knew no parts: ids, labels and contents of the images in one."""

    @classmethod
    def of(cls, table: pd.DataFrame, store: ImageStore, split_path: str | None) -> Self:
        """The fingerprint of the images in `table`, of the companions in `store` and of the file of the split."""
        rows = table.sort_values("image_id")
        parts = {part: _digest(rows, columns) for part, columns in _COLUMNS.items() if set(columns) & set(rows.columns)}
        parts |= {plane: _digest(rows.assign(**{plane: hashes}), (plane,)) for plane, hashes in _hashes(rows, store)}
        if split_path is not None and Path(split_path).is_file():
            content = hashlib.sha256(Path(split_path).read_bytes()).hexdigest()
            parts["split"] = hashlib.sha256(f"{parts.get('split', '')}{content}".encode()).hexdigest()[:16]
        return cls(parts, _digest_before(rows))

    @cached_property
    def total(self) -> str:
        """One fingerprint of all parts."""
        text = "\n".join(f"{part} {digest}" for part, digest in sorted(self.parts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def tags(self) -> dict[str, str]:
        """The tags by which a run says what it was made from."""
        return {TOTAL_TAG: self.total, **{f"{PART_TAG}{part}": digest for part, digest in self.parts.items()}}

    def known_as(self, tags: Mapping[str, str]) -> str:
        """This fingerprint as the run with `tags` would have recorded it."""
        return self.total if parts_of(tags) else self.before

    def differences(self, tags: Mapping[str, str]) -> list[str]:
        """What differs in the data that the run with `tags` was made from, in words; empty where nothing does."""
        if tags.get(TOTAL_TAG) in (self.total, self.before):
            return []
        return part_differences(parts_of(tags), self.parts) or ["data"]


def parts_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The parts that a run recorded, from its tags; none in runs that knew no parts."""
    return {part: tags[f"{PART_TAG}{part}"] for part in PARTS if f"{PART_TAG}{part}" in tags}


def part_differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The parts, in words, that both have and that differ."""
    return [words for part, words in PARTS.items() if part in one and part in other and one[part] != other[part]]


def _hashes(rows: pd.DataFrame, store: ImageStore) -> list[tuple[str, pd.Series]]:
    found = store.companion_hashes(rows["image_id"])
    return [(str(plane), found[plane].set_axis(rows.index)) for plane in found]


def _digest(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Over the ids and those of `columns` that are there; a missing value is an empty text."""
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
