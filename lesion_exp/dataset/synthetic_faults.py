"""Plants faults in a generated data set, as they occur in real ones: duplicates, corrupt files, unknown labels."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

UNKNOWN_LABEL: Final = "unclear"
"""The `dx` of a row with a planted unknown label."""


@dataclass(frozen=True)
class Faults:
    """The number of images with each fault; no image has two."""

    duplicates: int = 0
    """Byte-identical copies under another lesion and patient."""
    near_duplicates: int = 0
    """Copies under another lesion and patient that are slightly brighter and compressed again."""
    corrupt: int = 0
    """Files that are truncated to a third."""
    missing: int = 0
    """Rows without a file."""
    unknown_labels: int = 0
    doubled_ids: int = 0
    """Rows that occur twice."""
    missing_ages: int = 0

    @property
    def total(self) -> int:
        """The number of images with a fault."""
        return sum(getattr(self, fault.name) for fault in fields(self))


def plant(
    frame: pd.DataFrame, faults: Faults, images: Path, masks: Path, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plants `faults` in the table and in its files.

    Args:
        frame: the table of photographs.
        faults: how many faults to plant.
        images: folder of the images.
        masks: folder of the masks.
        seed: seed of the choice of images.

    Returns:
        The table with the faults, and a table of the faults with the columns `image_id`, `fault` (a field of `Faults`)
        and `original` (the image that was copied).
    """
    assert faults.total <= len(frame), (faults, len(frame))
    chosen = iter(np.random.default_rng([seed, 2]).permutation(len(frame))[: faults.total])
    rows = {
        fault.name: sorted(int(next(chosen)) for _ in range(getattr(faults, fault.name))) for fault in fields(faults)
    }
    frame = frame.copy()
    frame["age"] = frame["age"].astype(float)
    planted = [
        (frame["image_id"].iloc[row], fault, None) for fault in rows for row in rows[fault] if "dup" not in fault
    ]
    for row in rows["corrupt"]:
        _cut_off(images / f"{frame['image_id'].iloc[row]}.jpg")
    for row in rows["missing"]:
        (images / f"{frame['image_id'].iloc[row]}.jpg").unlink()
    added = [frame.iloc[rows["doubled_ids"]]]
    for fault in ("duplicates", "near_duplicates"):
        for row in rows[fault]:
            original = frame.iloc[row]
            copy = _renamed(original, len(frame) + len(planted))
            _copy_files(str(original["image_id"]), str(copy["image_id"]), images, masks, exact=fault == "duplicates")
            planted.append((copy["image_id"], fault, original["image_id"]))
            added.append(copy.to_frame().T)
    frame.loc[frame.index[rows["unknown_labels"]], "dx"] = UNKNOWN_LABEL
    frame.loc[frame.index[rows["missing_ages"]], "age"] = np.nan
    together = pd.concat(added, ignore_index=True) if faults.total else added[0]
    return pd.concat([frame, together.astype(frame.dtypes)], ignore_index=True), pd.DataFrame(
        planted, columns=["image_id", "fault", "original"]
    )


def _renamed(original: pd.Series, number: int) -> pd.Series:
    copy = original.copy()
    for column, prefix, digits in (("image_id", "SYN", 7), ("lesion_id", "SYNL", 6), ("patient_id", "SYNP", 6)):
        copy[column] = f"{prefix}_{number:0{digits}d}"
    return copy


def _copy_files(original: str, copy: str, images: Path, masks: Path, *, exact: bool) -> None:
    shutil.copyfile(masks / f"{original}.png", masks / f"{copy}.png")
    source, target = images / f"{original}.jpg", images / f"{copy}.jpg"
    if exact:
        shutil.copyfile(source, target)
        return
    with Image.open(source, formats=["JPEG"]) as image:
        brighter = ImageEnhance.Brightness(image).enhance(1.03)
    encoded = io.BytesIO()
    brighter.save(encoded, "JPEG", quality=80)
    target.write_bytes(encoded.getvalue())


def _cut_off(path: Path) -> None:
    encoded = path.read_bytes()
    path.write_bytes(encoded[: len(encoded) // 3])
