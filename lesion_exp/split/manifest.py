"""A split as a table to keep, and its hash."""

from __future__ import annotations

import hashlib

import pandas as pd

COLUMNS = (
    "row_id",
    "image_id",
    "label",
    "lesion_id",
    "patient_id",
    "source",
    "group",
    "sha256",
    "phash",
    "split",
    "fold",
)


def manifest(table: pd.DataFrame) -> pd.DataFrame:
    """What of a split table is logged with a run: ids, groups, content hashes and parts, in the order of `row_id`."""
    columns = [column for column in COLUMNS if column in table]
    return table[columns].sort_values("row_id", ignore_index=True)


def split_hash(table: pd.DataFrame) -> str:
    """16 hexadecimal digits over which row is in which part; the order of rows and the place of files do not count."""
    ordered = table[["row_id", "split"]].sort_values("row_id")
    text = "\n".join(f"{row_id}\t{part}" for row_id, part in ordered.itertuples(index=False))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
