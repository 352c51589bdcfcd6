"""What two parts of a split share, image by image: patients, lesions, identical images and near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.split.groups import COPY_ID, known_pairs

ALL: Final = "all"
"""The key of the counts of all classes."""
ANY: Final = "any"
"""The kind that includes all others: the images are of one group."""
COLUMNS: Final[Mapping[str, str]] = {
    "patients": "patient_id",
    "lesions": "lesion_id",
    "identical_images": "sha256",
    "copies": COPY_ID,
}
"""Kind -> the column that has the same value in both parts."""
NEAR: Final = "near_duplicates"
CHAIN: Final = "chains"
"""The kind of images that are of one group with an image of the other part by a chain of relations alone."""


@dataclass(frozen=True)
class Overlap:
    """The images, lesions and patients that a `part` shares with the part `other`, which was seen before."""

    part: str
    other: str
    images: dict[str, int]
    """Class, or `all` -> images of the part."""
    touched: dict[str, dict[str, int]]
    """Kind -> class, or `all` -> images of the part that have a relation of this kind to an image of the other. There
    are no `patients` or `lesions` if the data set names none."""
    crossing: dict[str, dict[str, int]]
    """Kind, except `chains` and `any` -> class, or `all` -> patients, lesions, distinct files, or pairs of
    near-duplicates that are in both parts."""
    rows: pd.DataFrame
    """The images of the part, with the index of the table, and a column of truth values for each kind."""

    def share(self, kind: str = ANY, label: str = ALL) -> float:
        """Returns the share of the images of a class, or of `all`, that have a relation of this kind."""
        return self.touched[kind][label] / max(self.images[label], 1)

    def to_dict(self) -> dict[str, object]:
        """Returns the counts as plain values, for JSON."""
        return {
            "part": self.part,
            "other": self.other,
            "images": self.images,
            "touched": self.touched,
            "crossing": self.crossing,
            "share": {kind: {label: self.share(kind, label) for label in self.images} for kind in self.touched},
        }


def overlap(table: pd.DataFrame, part: str, other: str, near_duplicate_threshold: float) -> Overlap:
    """Returns what `part` shares with `other`.

    Near-duplicates are pictures that are saved again, turned or changed slightly. Identical files are another kind, and
    do not count among them.

    Args:
        table: a split table with `image_id, label, patient_id, lesion_id, sha256, phash, thumbnail, group` and `split`.
            An image that is in several parts has a row for each.
        part: the part that is evaluated.
        other: a part that was seen before: `train`, or `val`.
        near_duplicate_threshold: see `near_duplicate_pairs`.

    Raises:
        ConfigError: the threshold is out of range.
    """
    both = table[table["split"].isin([part, other])]
    own, others = both[both["split"] == part], both[both["split"] == other]
    touched, crossing = {}, {}
    for kind, column in COLUMNS.items():
        if column not in table or table[column].isna().all():
            continue
        shared = own[column].notna() & own[column].isin(others[column].dropna())
        touched[kind] = shared
        crossing[kind] = _by_class(own[shared].drop_duplicates([column, "label"])["label"], own)
        crossing[kind][ALL] = int(own.loc[shared, column].nunique())
    pairs = _near_duplicates(table, own, others, near_duplicate_threshold)
    touched[NEAR] = own["image_id"].isin(pairs)
    crossing[NEAR] = _by_class(own.drop_duplicates("image_id").set_index("image_id")["label"].reindex(pairs), own)
    any_ = own["group"].isin(others["group"])
    touched |= {CHAIN: any_ & ~pd.DataFrame(touched).any(axis=1), ANY: any_}
    rows = pd.DataFrame(touched)
    return Overlap(
        part,
        other,
        _by_class(own["label"], own),
        {str(kind): _by_class(own.loc[rows[kind], "label"], own) for kind in rows},
        crossing,
        rows,
    )


def _by_class(labels: pd.Series, own: pd.DataFrame) -> dict[str, int]:
    counts = labels.value_counts()
    return {ALL: len(labels)} | {str(name): int(counts.get(name, 0)) for name in sorted(own["label"].unique())}


def _near_duplicates(table: pd.DataFrame, own: pd.DataFrame, others: pd.DataFrame, threshold: float) -> list[str]:
    """Returns the image of `own` in each pair of near-duplicates with one image in `own` and the other in `others`."""
    images = table.drop_duplicates("image_id")
    names, content = images["image_id"].to_numpy(), images["sha256"].to_numpy()
    # numpy's own isin compares each text with each other one
    here, there = (images["image_id"].isin(part["image_id"]).to_numpy() for part in (own, others))
    pairs = known_pairs(images, threshold)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    different = content[first] != content[second]
    ends = [one[different & here[one] & there[other]] for one, other in ((first, second), (second, first))]
    return [str(name) for name in names[np.concatenate(ends)]]
