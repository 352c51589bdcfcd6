"""The table of a generated data set: random patients, lesions and photographs, and the faults planted among them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from lesion_exp.taxonomy import is_malignant

LEAST_LESIONS: Final = 3
"""Smallest number of lesions of a class if the total allows it: one for each part of a split."""
TONE_SHARES: Final = (0.2, 0.38, 0.22, 0.1, 0.06, 0.04)
"""Shares of patients with the Fitzpatrick types 1 to 6."""
_SHARE_SECOND_LESION: Final = 0.15
"""Share of lesions that belong to a patient who already has one."""
_SHARE_SECOND_OF_DUCKLINGS: Final = 0.85
"""The same share with a planted patient effect: about seven lesions a patient."""
USUAL: Final = "nv"
"""With a planted patient effect all lesions and patients look like those of this class."""
_PIGMENT: Final = (0.2, 2.2)
"""Range of the pigment of patients, an optical density, with a planted patient effect."""

# Mean and standard deviation of the age in years, share of men: roughly those of HAM10000.
_AGE_AND_MEN: Final[Mapping[str, tuple[float, float, float]]] = {
    "akiec": (66, 11, 0.67),
    "bcc": (66, 13, 0.61),
    "bkl": (64, 14, 0.57),
    "df": (53, 13, 0.55),
    "mel": (60, 15, 0.62),
    "nv": (46, 15, 0.51),
    "vasc": (51, 20, 0.49),
}
_SITES: Final = ("back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "scalp")
_SITE_SHARES: Final[Mapping[str, tuple[float, ...]]] = {
    "akiec": (0.09, 0.2, 0.02, 0.2, 0.02, 0.38, 0.04, 0.05),
    "bcc": (0.37, 0.11, 0.03, 0.11, 0.04, 0.21, 0.09, 0.04),
    "bkl": (0.2, 0.17, 0.07, 0.1, 0.04, 0.31, 0.07, 0.04),
    "df": (0.03, 0.7, 0.02, 0.2, 0.03, 0.0, 0.01, 0.01),
    "mel": (0.31, 0.18, 0.05, 0.2, 0.07, 0.11, 0.06, 0.02),
    "nv": (0.23, 0.23, 0.2, 0.12, 0.14, 0.03, 0.04, 0.01),
    "vasc": (0.16, 0.2, 0.24, 0.09, 0.2, 0.06, 0.04, 0.01),
}
UNKNOWN_LABEL: Final = "unclear"
"""The `dx` of a row with a planted unknown label."""


def lesions_per_class(num_lesions: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Divides `num_lesions` among the classes in proportion to `shares`, with at least `LEAST_LESIONS` for each class.

    If there are fewer lesions than that, the classes get about equal numbers.

    Args:
        num_lesions: total, at least the number of classes with a positive share.
        shares: class -> share, in any unit.
    """
    names = sorted(name for name, share in shares.items() if share > 0)
    assert num_lesions >= len(names), (num_lesions, names)
    least = min(LEAST_LESIONS, num_lesions // len(names))
    weights = np.asarray([shares[name] for name in names], dtype=float)
    exact = weights / weights.sum() * num_lesions
    counts = np.maximum(np.floor(exact), least).astype(int)
    while counts.sum() != num_lesions:
        missing = exact - counts
        if counts.sum() < num_lesions:
            counts[np.argmax(missing)] += 1
        else:
            counts[np.argmin(np.where(counts > least, missing, np.inf))] -= 1
    return dict(zip(names, (int(count) for count in counts), strict=True))


def draw_cases(
    counts: Mapping[str, int], images_per_lesion: float, seed: int, patient_effect: float = 0.0
) -> pd.DataFrame:
    """Returns a table with one row per photograph: ids, diagnosis `dx`, age, sex, localization and skin.

    The columns `lesion` and `photograph` are numbers from which the seeds of the drawing are made. Lesions of all
    classes are mixed, so that no id reveals the class. Age, sex and site depend on the class. About one lesion in seven
    belongs to a patient who already has one.

    Args:
        counts: class -> number of lesions.
        images_per_lesion: mean number of photographs per lesion.
        seed: seed of every random choice.
        patient_effect: optical density by which malignant lesions are darker than the others of their patient. If it is
            not 0, patients have seven lesions on average, age, sex and site do not depend on the class, and the column
            `pigment` has the optical density of melanin of each lesion.
    """
    share_second = _SHARE_SECOND_OF_DUCKLINGS if patient_effect else _SHARE_SECOND_LESION
    rng = np.random.default_rng([seed, 1])
    diagnoses = rng.permutation([code for code, count in counts.items() for _ in range(count)])
    patients: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for lesion, code in enumerate(diagnoses):
        if patients and rng.random() < share_second:
            patient = patients[int(rng.integers(len(patients)))]
        else:
            patient = _draw_patient(USUAL if patient_effect else str(code), len(patients), rng)
            if patient_effect:
                patient["pigment"] = float(rng.uniform(*_PIGMENT))
            patients.append(patient)
        like = USUAL if patient_effect else str(code)
        case = {
            "lesion_id": f"SYNL_{lesion:06d}",
            "dx": str(code),
            "localization": str(rng.choice(_SITES, p=_SITE_SHARES[like])),
            "hairs": int(rng.choice((0, 0, 0, 0, 3, 9))),
            "freckles": int(rng.poisson(2.5)),
            "lesion": lesion,
        }
        photographs = 1 + int(rng.poisson(images_per_lesion - 1))
        rows.extend({**patient, **case, "photograph": number} for number in range(photographs))
    frame = pd.DataFrame(rows)
    if patient_effect:
        frame["pigment"] += patient_effect * frame["dx"].map(is_malignant)
    frame.insert(0, "image_id", [f"SYN_{number:07d}" for number in range(len(frame))])
    return frame


def _draw_patient(code: str, number: int, rng: np.random.Generator) -> dict[str, object]:
    mean, deviation, men = _AGE_AND_MEN[code]
    age = float(np.clip(rng.normal(mean, deviation), 5, 85))
    return {
        "patient_id": f"SYNP_{number:06d}",
        "age": 5 * round(age / 5),
        "sex": "male" if rng.random() < men else "female",
        "skin_tone": 1 + int(rng.choice(len(TONE_SHARES), p=TONE_SHARES)),
    }


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
