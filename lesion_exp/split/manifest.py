"""What a run stores about its split: the manifest, the split's hash, and the characteristics of each part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

from lesion_exp.image_ids import image_key
from lesion_exp.split import PARTS
from lesion_exp.taxonomy import IS_UNKNOWN, PSEUDO_RUN

COLUMNS: Final = (
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
    PSEUDO_RUN,
)
"""Columns of the manifest, as far as the table has them."""
ATTRIBUTES: Final = ("sex", "site", "source")
"""Columns whose values `characteristics` counts."""


def manifest(table: pd.DataFrame, salt: str | None = None) -> pd.DataFrame:
    """Returns the table that is stored with a run: ids, groups, parts and `image_keys`, in the order of `row_id`.

    It contains no hash of an image. The keys show whether a given image file is a row of this split.

    Args:
        table: a split table, with `sha256` and `phash`.
        salt: the hash of the split, of which `table` may have a share of the training part; None computes it.
    """
    columns = [column for column in COLUMNS if column in table]
    kept = pd.concat([table[columns], image_keys(table, salt or split_hash(table))], axis=1)
    return kept.sort_values("row_id", ignore_index=True)


def image_keys(table: pd.DataFrame, salt: str) -> pd.DataFrame:
    """Returns `content_key`, a digest of each row's file, and `picture_key`, one of its name and perceptual hash.

    The name is the image id without folders, the prefix of a combination and the ending of a file, so that a copy that
    was saved again is found whatever its data set calls it. The digests are salted, so that keys of different splits
    cannot be compared, and published hashes of images cannot be found among them.

    Args:
        table: a table with `image_id`, `sha256` and `phash`.
        salt: the hash of the split.
    """
    names = [image_key(name).rpartition("/")[2] for name in table["image_id"]]
    keys = {
        "content_key": [_digest(salt, content) for content in table["sha256"]],
        "picture_key": _picture_keys(names, table, salt),
    }
    return pd.DataFrame(keys, index=table.index)


def earlier_picture_keys(table: pd.DataFrame, salt: str) -> pd.Series:
    """Returns the `picture_key` of each row as older versions stored it, with the whole image id."""
    return pd.Series(_picture_keys(table["image_id"], table, salt), index=table.index)


def _picture_keys(names: Iterable[str], table: pd.DataFrame, salt: str) -> list[str]:
    return [_digest(salt, name, phash) for name, phash in zip(names, table["phash"], strict=True)]


def split_hash(table: pd.DataFrame) -> str:
    """Returns 16 hexadecimal digits that depend on the part of each `row_id`, but not on the order of rows or paths.

    Pseudo-labelled rows, which are in the training part alone, do not count.
    """
    if PSEUDO_RUN in table:
        table = table[table[PSEUDO_RUN].isna()]
    ordered = table[["row_id", "split"]].sort_values("row_id")
    text = "\n".join(f"{row_id}\t{part}" for row_id, part in ordered.itertuples(index=False))
    return _digest(text)


def characteristics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns the characteristics of the images in each part, as plain values.

    They are the number of `images`, `age` in years (median, lower and upper quartile, number of unknown ages), and the
    number of images of each sex, site and source. Resampled rows count as often as they occur.

    Args:
        table: a split table, with the columns of `dataset.table`.
    """
    return {part: _of_part(table[table["split"] == part]) for part in PARTS if (table["split"] == part).any()}


def _digest(*parts: object) -> str:
    return hashlib.sha256("\t".join(map(str, parts)).encode()).hexdigest()[:16]


def _of_part(rows: pd.DataFrame) -> dict[str, Any]:
    lower, median, upper = (None if pd.isna(age) else float(age) for age in rows["age"].quantile([0.25, 0.5, 0.75]))
    counts = {name: rows[name].value_counts() for name in ATTRIBUTES}
    return {
        "images": len(rows),
        "age": {"median": median, "lower": lower, "upper": upper, "unknown": int(rows["age"].isna().sum())},
        **{name: {str(value): int(count) for value, count in found.items()} for name, found in counts.items()},
    }
