"""A split as a table to keep, and its hash."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pandas as pd

from lesion_exp.split import PARTS
from lesion_exp.taxonomy import IS_UNKNOWN

COLUMNS = (
    "row_id",
    "image_id",
    "label",
    "lesion_id",
    "patient_id",
    "source",
    "group",
    "split",
    "fold",
    IS_UNKNOWN,
)


def manifest(table: pd.DataFrame) -> pd.DataFrame:
    """What of a split table is logged with a run: ids, groups, parts and `image_keys`, in the order of `row_id`.

    No hash of an image is among it; the keys tell whether an image that one has at hand is a row of this split.
    """
    columns = [column for column in COLUMNS if column in table]
    kept = pd.concat([table[columns], image_keys(table, split_hash(table))], axis=1)
    return kept.sort_values("row_id", ignore_index=True)


def image_keys(table: pd.DataFrame, salt: str) -> pd.DataFrame:
    """`content_key`, for the bytes of each row's image file, and `picture_key`, for its id and what it looks like.

    They are digests that another `salt`, a split's hash, makes others: the keys of two splits cannot be compared, and
    hashes that are known from elsewhere are not found among them.
    """
    return pd.DataFrame(
        {
            "content_key": [_digest(salt, content) for content in table["sha256"]],
            "picture_key": [_digest(salt, *both) for both in zip(table["image_id"], table["phash"], strict=True)],
        },
        index=table.index,
    )


def split_hash(table: pd.DataFrame) -> str:
    """16 hexadecimal digits over which row is in which part; the order of rows and the place of files do not count."""
    ordered = table[["row_id", "split"]].sort_values("row_id")
    text = "\n".join(f"{row_id}\t{part}" for row_id, part in ordered.itertuples(index=False))
    return _digest(text)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\t".join(map(str, parts)).encode()).hexdigest()[:16]


ATTRIBUTES: Final = ("sex", "site", "source")


def characteristics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By part, as plain values: `images`, `age` in years (median, lower and upper quartile, how many are unknown), and
    the images of each sex, site and source. Resampled rows count as often as they stand there."""
    return {part: _of_part(table[table["split"] == part]) for part in PARTS if (table["split"] == part).any()}


def _of_part(rows: pd.DataFrame) -> dict[str, Any]:
    lower, median, upper = (None if pd.isna(age) else float(age) for age in rows["age"].quantile([0.25, 0.5, 0.75]))
    counts = {name: rows[name].value_counts() for name in ATTRIBUTES}
    return {
        "images": len(rows),
        "age": {"median": median, "lower": lower, "upper": upper, "unknown": int(rows["age"].isna().sum())},
        **{name: {str(value): int(count) for value, count in found.items()} for name, found in counts.items()},
    }
