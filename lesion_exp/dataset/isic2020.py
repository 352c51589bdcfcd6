"""Reads ISIC 2020: 33,126 dermoscopic images of 2,056 patients, melanoma against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.joins import NameIndex
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, require_columns, standardize
from lesion_exp.errors import DataError, check_choice
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv, typed

GROUND_TRUTH: Final = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv")
DUPLICATES: Final = "ISIC_2020_Training_Duplicates.csv"
WITHOUT_DUPLICATES: Final = (
    "set dataset.drop_listed_duplicates=false to go on without that list (the copy on Kaggle has none; images that "
    "look alike still stay in one part of a split)"
)
COLUMNS: Final = {
    "image_name": "image_id",
    "patient_id": "patient_id",
    "sex": "sex",
    "age_approx": "age",
    "anatom_site_general_challenge": "site",
    "diagnosis": "leaks_diagnosis",
    "benign_malignant": "leaks_benign_malignant",
    "target": "leaks_target",
}
"""Columns of the ground truth -> their names in the table."""
TARGET_CODES: Final = {"0": "benign", "1": "malignant"}
# The nine diagnoses are merged as by the winners of the challenge (arXiv:2010.05351).
DIAGNOSIS_CODES: Final = {
    "melanoma": "mel",
    "nevus": "nv",
    "seborrheic keratosis": "bkl",
    "lichenoid keratosis": "bkl",
    "solar lentigo": "bkl",
    "lentigo NOS": "bkl",
    "cafe-au-lait macule": "unk",
    "atypical melanocytic proliferation": "unk",
    "unknown": "unk",
}

COUNTS: Final = {
    ("target", False): {"benign": 32_542, "malignant": 584},
    ("target", True): {"benign": 31_539, "malignant": 581},
    ("diagnosis", False): {"bkl": 223, "mel": 584, "nv": 5193, "unk": 27_126},
}
"""`label` and `drop_listed_duplicates` -> images per class."""

INFO: Final = DatasetInfo(
    name="isic2020",
    title="ISIC 2020 challenge (SIIM-ISIC melanoma classification)",
    view="dermoscopic",
    citation=(
        "Rotemberg et al., A patient-centric dataset of images and metadata for identifying melanomas using clinical "
        "context, Scientific Data 8:34 (2021)"
    ),
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "https://challenge2020.isic-archive.com: ISIC_2020_Training_JPEG.zip, ISIC_2020_Training_GroundTruth.csv "
        "(or v2, with lesion ids), ISIC_2020_Training_Duplicates.csv"
    ),
    published_counts=COUNTS["target", True],
    published_for=lambda label="target", drop_listed_duplicates=True, **_: COUNTS.get(
        (label, drop_listed_duplicates), {}
    ),
)


def read_isic2020(
    root: str,
    label: Literal["target", "diagnosis"] = "target",
    drop_listed_duplicates: bool = True,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Returns the table of ISIC 2020.

    The columns `diagnosis`, `benign_malignant` and `target` reveal the label; they are kept as `leaks_...`.

    Args:
        root: folder with the download.
        label: `target` (classes `benign` and `malignant`) or `diagnosis` (`mel`, `nv`, `bkl` and `unk`).
        drop_listed_duplicates: whether to leave out the second image of each pair in the organisers' list of
            duplicates.
        ignore: patterns of files that are not read.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: `label` is neither `target` nor `diagnosis`.
    """
    codes = {"target": TARGET_CODES, "diagnosis": DIAGNOSIS_CODES}
    check_choice("dataset.label", label, codes)
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require(*GROUND_TRUTH)
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS, {"lesion_id": "lesion_id"})
    frame["image_id"] = plain_ids(frame["image_id"])
    frame = map_labels(frame, f"leaks_{label}", codes[label])
    frame["leaks_target"] = typed(frame["leaks_target"])
    if drop_listed_duplicates:
        frame = _drop_duplicates(frame, files)
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _drop_duplicates(frame: pd.DataFrame, files: SourceFiles) -> pd.DataFrame:
    locator = files.require(DUPLICATES, without=WITHOUT_DUPLICATES)
    pairs = read_csv(locator)
    require_columns(pairs, ["image_name_1", "image_name_2"], files.shorten(locator))
    known = NameIndex(frame["image_id"])
    listed = pairs[["image_name_1", "image_name_2"]].dropna()
    rows = [(known.positions(first), known.positions(second)) for first, second in listed.itertuples(index=False)]
    dropped = {position for first, second in rows if first for position in second}
    whole = sum(bool(first and second) for first, second in rows)
    if not whole:
        first_pair = ", ".join(listed.iloc[0]) if len(listed) else "missing"
        raise DataError(
            f"expected pairs of images of {INFO.title} in {files.shorten(locator)}, but none of its {len(rows):,} "
            f"pairs is among the {len(frame):,} images: the first is {first_pair}; "
            f"get the list again, or {WITHOUT_DUPLICATES}"
        )
    record_finding(
        f"{len(dropped):,} images of {INFO.title} are left out, because {files.shorten(locator)} lists them as "
        f"duplicates; "
        f"{len(rows) - whole:,} of its {len(rows):,} pairs name an image that is not there",
        level="warning" if whole < len(rows) else "info",
    )
    return frame.drop(index=frame.index[sorted(dropped)]).reset_index(drop=True)
