"""The images that the initial weights of a training were trained on, and which images of a split are among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.image_ids import ARCHIVE_ID, ID_ORIGIN, OF_A_FOLDER
from lesion_exp.split import PARTS
from lesion_exp.split.manifest import earlier_picture_keys, image_keys

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
    ID_ORIGIN,
    "content_key",
    "picture_key",
    "salt",
    "run_id",
    "use",
)
OF_LESIONS: Final = ("lesion_id", "patient_id")
MOST_CASES: Final = 10


@dataclass(frozen=True)
class SeenBefore:
    """The images of a split on which the initial weights were trained, or by which they were chosen."""

    runs: tuple[str, ...]
    """The runs that trained the weights."""
    parts: dict[str, dict[str, int]]
    """Part -> numbers of images: of `all`; of those that were seen with `labels`, as `images` alone, or were `probed`;
    and of further images of which another image of the same lesion or patient was seen (`lesions_labels`,
    `lesions_images`, `lesions_probed`). A validation image of an earlier run, by whose label its best epoch was chosen,
    counts if it is a test image now: under `labels`, or for a pretraining under `probed`."""
    cases: tuple[str, ...]
    """The first images of validation and test that were seen, or whose lesion or patient was seen."""
    num_seen: int
    """Distinct images that the weights have seen."""

    def count(self, use: str) -> int:
        """Returns the number of images of validation and test that were seen in this `use`, themselves or their lesion
        or patient.
        """
        return sum(self.parts[part][key] for part in ("val", "test") for key in (use, f"lesions_{use}"))

    def in_words(self) -> str:
        """Returns a text about the images of validation and test that were seen; empty if there are none."""
        words = []
        for part in ("test", "val"):
            found = self.parts[part]
            for use, how in _IN_WORDS.items():
                if number := found[use] + found[f"lesions_{use}"]:
                    words.append(f"{number:,} of {found['all']:,} {PARTS[part]} images {how}")
        return ", ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {
            "runs": list(self.runs),
            "seen_images": self.num_seen,
            "parts": self.parts,
            "cases": list(self.cases),
            "summary": self.in_words() or "nothing of validation and test",
        }


def seen_rows(manifest: pd.DataFrame, parts: Collection[str], salt: str, run_id: str, use: str) -> pd.DataFrame:
    """Returns a row for each image that a run saw: the images in `parts` of its `manifest`.

    `salt` is the hash of its split, with which the keys of the images were made.
    """
    rows = manifest[manifest["split"].isin(list(parts))].drop_duplicates("image_id")
    if "content_key" not in rows and "sha256" in rows:  # a run of a version that stored the hashes themselves
        rows = rows.join(image_keys(rows, salt))
    rows = rows.assign(salt=salt, run_id=run_id, use=use)
    return rows.reindex(columns=list(COLUMNS)).reset_index(drop=True)


def seen_again(table: pd.DataFrame, seen: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Returns which rows of `table` show an image that was `seen`, and which show a lesion or patient, bool (N,).

    An image was seen if its content, or its name and perceptual hash, are those of a seen image. For runs of older
    versions, which stored no keys, its `named_ids` are compared, as those of lesions and patients always are.

    Args:
        table: a table with `image_id, lesion_id, patient_id, source, sha256` and `phash`, and `ID_ORIGIN` if known.
        seen: a table with the columns `COLUMNS`, see `seen_rows`; rows of older versions have no `patient_id`.
    """
    images = pd.Series(False, index=table.index)
    for salt, rows in seen.groupby("salt", sort=True):
        keys = image_keys(table, str(salt))
        known = rows["content_key"].notna()
        images |= keys["content_key"].isin(rows.loc[known, "content_key"])
        for names in (keys["picture_key"], earlier_picture_keys(table, str(salt))):
            images |= names.isin(rows.loc[known, "picture_key"])
        if not known.all():
            images |= named_ids(table, "image_id").isin(named_ids(rows[~known], "image_id").dropna())
    return images, _related(table, seen)


def same_ids_elsewhere(table: pd.DataFrame, seen: pd.DataFrame, columns: Sequence[str] = OF_LESIONS) -> pd.Series:
    """Returns which rows of `table` have an id of a `seen` row of the same kind of data set, but of another origin,
    bool (N,). Whether they show the same lesion, patient or image is not known.

    All data of the user's own are of one kind, also as sets of a combination. Else a kind is a source.

    Args:
        table: see `seen_again`.
        seen: see `seen_again`.
        columns: the columns whose ids are compared.
    """
    mine, others = (rows.drop(columns=ID_ORIGIN, errors="ignore") for rows in (table, seen))
    of_user = _related(_with_one_folder(table), _with_one_folder(seen), columns)
    return (_related(mine, others, columns) | of_user) & ~_related(table, seen, columns)


def _with_one_folder(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows`, in which all data of the user's own have the same origin."""
    if ID_ORIGIN not in rows:
        return rows
    is_own = rows[ID_ORIGIN].fillna("").astype(str).str.startswith(OF_A_FOLDER)
    return rows.assign(**{ID_ORIGIN: rows[ID_ORIGIN].mask(is_own, OF_A_FOLDER)})


def _related(table: pd.DataFrame, seen: pd.DataFrame, columns: Sequence[str] = OF_LESIONS) -> pd.Series:
    related = pd.Series(False, index=table.index)
    for column in columns:
        related |= named_ids(table, column).isin(named_ids(seen, column).dropna())
    return related


def find_seen(table: pd.DataFrame, seen: pd.DataFrame) -> SeenBefore:
    """Returns which images of the split `table` were `seen`, by the rules of `seen_again`."""
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


def named_ids(table: pd.DataFrame, column: str) -> pd.Series:
    """Returns the ids of images, lesions or patients with their origin, as texts; None where there is no id.

    The origin is the ISIC archive for its ids, whatever the data set, else that in `ID_ORIGIN`, else the source. Ids
    that `dataset=combined` prefixed lose the prefix.
    """
    if column not in table:
        return pd.Series(None, index=table.index, dtype=object)
    origins = table["source"]
    if ID_ORIGIN in table:  # rows of older versions have none
        origins = table[ID_ORIGIN].where(table[ID_ORIGIN].notna(), origins)
    named: list[str | None] = []
    for name, source, origin in zip(table[column], table["source"], origins, strict=True):
        if not isinstance(name, str) or not name:
            named.append(None)
            continue
        plain = name.removeprefix(f"{source}/").removeprefix("isic/")
        named.append(f"{'isic' if ARCHIVE_ID.fullmatch(plain) else origin}\t{plain}")
    return pd.Series(named, index=table.index, dtype=object)
