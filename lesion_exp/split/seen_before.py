"""What the weights that a training starts from have seen before, and which images of a split are among it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.split import PARTS
from lesion_exp.split.manifest import image_keys

LABELS: Final = "labels"
"""The weights were trained on the image's label."""
CHOSEN: Final = "chosen"
"""The best epoch was chosen by the image's label: a leak for a test image, the usual use of a validation image."""
IMAGES: Final = "images"
"""The weights were trained on the image, not on its label."""
PROBED: Final = "probed"
"""The best epoch of a pretraining was chosen by the image's label."""
_IN_WORDS: Final = {
    LABELS: "with their labels",
    IMAGES: "without labels",
    PROBED: "in the choice of the best epoch of a pretraining",
}
COLUMNS: Final = (
    "image_id",
    "lesion_id",
    "patient_id",
    "source",
    "content_key",
    "picture_key",
    "salt",
    "run_id",
    "use",
)
MOST_CASES: Final = 10


@dataclass(frozen=True)
class SeenBefore:
    """Which images of a split the initial weights have seen."""

    runs: tuple[str, ...]
    """The runs that have made the weights, as far as they saw images."""
    parts: dict[str, dict[str, int]]
    """Part -> its number of images (`all`); of those, how many were seen with `labels`, or as `images` alone, or were
    `probed`; and the number of further images of which another image of the same lesion or patient was seen
    (`lesions_labels`, `lesions_images`, `lesions_probed`). By the labels of validation images an epoch may have been
    chosen before: that counts where they are test images now, with `labels` or, of a pretraining, as `probed`."""
    cases: tuple[str, ...]
    """The first images of validation and test that were seen, or whose lesion or patient was."""
    num_seen: int
    """Distinct images that the weights have seen."""

    def count(self, use: str) -> int:
        """Images of validation and test that were seen, or whose lesion or patient was, in this `use`."""
        return sum(self.parts[part][key] for part in ("val", "test") for key in (use, f"lesions_{use}"))

    def in_words(self) -> str:
        """What was seen of validation and test; empty if nothing was."""
        words = []
        for part in ("test", "val"):
            found = self.parts[part]
            for use, how in _IN_WORDS.items():
                if number := found[use] + found[f"lesions_{use}"]:
                    words.append(f"{number:,} of {found['all']:,} {PARTS[part]} images {how}")
        return ", ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "runs": list(self.runs),
            "seen_images": self.num_seen,
            "parts": self.parts,
            "cases": list(self.cases),
            "summary": self.in_words() or "nothing of validation and test",
        }


def seen_rows(manifest: pd.DataFrame, parts: Collection[str], salt: str, run_id: str, use: str) -> pd.DataFrame:
    """The rows of what a run saw: those of the `parts` of its `manifest`, whose keys have the `salt` of its split."""
    rows = manifest[manifest["split"].isin(list(parts))].drop_duplicates("image_id")
    if "content_key" not in rows and "sha256" in rows:  # a run of a version that stored the hashes themselves
        rows = rows.join(image_keys(rows, salt))
    rows = rows.assign(salt=salt, run_id=run_id, use=use)
    return rows.reindex(columns=list(COLUMNS)).reset_index(drop=True)


def seen_again(table: pd.DataFrame, seen: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which rows of `table` show an image that was `seen` (see `seen_rows`), and which a lesion or patient, bool (N,).

    An image was seen if it has the content of one, or its id and perceptual hash; or, where a run of an older version
    kept no keys, its id and source. A lesion or patient is the same by its id and source. Ids that `dataset=combined`
    prefixed are compared without the prefix.

    Args:
        table: a table with `image_id, lesion_id, patient_id, source, sha256` and `phash`.
        seen: rows of `COLUMNS`; those of an older version have no `patient_id`.
    """
    images = pd.Series(False, index=table.index)
    for salt, rows in seen.groupby("salt", sort=True):
        keys = image_keys(table, str(salt))
        known = rows["content_key"].notna()
        images |= keys["content_key"].isin(rows.loc[known, "content_key"])
        images |= keys["picture_key"].isin(rows.loc[known, "picture_key"])
        if not known.all():
            images |= _ids(table, "image_id").isin(_ids(rows[~known], "image_id").dropna())
    related = pd.Series(False, index=table.index)
    for column in ("lesion_id", "patient_id"):
        related |= _ids(table, column).isin(_ids(seen, column).dropna())
    return images, related


def find_seen(table: pd.DataFrame, seen: pd.DataFrame) -> SeenBefore:
    """Finds the images of the split `table` among those that were `seen`, as `seen_again` does."""
    is_test = table["split"] == "test"
    images, lesions = {}, {}
    for use in (LABELS, CHOSEN, IMAGES, PROBED):
        found, related = seen_again(table, seen[seen["use"] == use])
        images[use], lesions[use] = (mask & is_test if use in (CHOSEN, PROBED) else mask for mask in (found, related))
    for by_use in (images, lesions):
        by_use[LABELS] |= by_use.pop(CHOSEN)
    for use in (IMAGES, PROBED):
        images[use] &= ~images[LABELS]
    lesions = {use: found & ~images[LABELS] & ~images[use] for use, found in lesions.items()}
    for use in (IMAGES, PROBED):
        lesions[use] &= ~lesions[LABELS]
    parts = {}
    for part in PARTS:
        of_part = table["split"] == part
        counts = {use: int((images[use] & of_part).sum()) for use in images}
        counts |= {f"lesions_{use}": int((lesions[use] & of_part).sum()) for use in lesions}
        parts[part] = {"all": int(of_part.sum()), **counts}
    seen_at_all = np.any([*images.values(), *lesions.values()], axis=0)
    evaluated = table["split"].isin(["val", "test"]) & seen_at_all
    cases = sorted(map(str, table.loc[evaluated, "image_id"]))[:MOST_CASES]
    distinct = seen["content_key"].where(seen["content_key"].notna(), seen["image_id"]).nunique()
    return SeenBefore(tuple(sorted(set(seen["run_id"]))), parts, tuple(cases), int(distinct))


def _ids(table: pd.DataFrame, column: str) -> pd.Series:
    """Source and id without a prefix, as one text; None where there is no id."""
    if column not in table:
        return pd.Series(None, index=table.index, dtype=object)
    named = [
        f"{source}\t{name.removeprefix(f'{source}/').removeprefix('isic/')}" if isinstance(name, str) and name else None
        for source, name in zip(table["source"], table[column], strict=True)
    ]
    return pd.Series(named, index=table.index, dtype=object)
