"""Reads ISIC 2018 Task 3: the images of HAM10000 as training part of a challenge, with validation and test parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.isic_challenge import check_parts, counts_of_parts, read_one_hot
from lesion_exp.dataset.joins import join_rows
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, named_columns, standardize
from lesion_exp.text_table import read_csv

CHALLENGE: Final = "ISIC2018_Task3"
GROUPS: Final = "ISIC2018_Task3_Training_LesionGroupings.csv"
CODES: Final = {name: name.lower() for name in ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")}
WITHOUT_GROUPS: Final = (
    "set dataset.need_lesion_groups=false to go on without lesion ids (each image then counts as a separate lesion)"
)
UNSCORED: Final = frozenset({"ISIC_0035068"})
"""The test image to which the organisers' scorer gives weight zero: 1,511 of 1,512 images count."""
PART_COUNTS: Final = {
    "train": {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142},
    "val": {"akiec": 8, "bcc": 15, "bkl": 22, "df": 1, "mel": 21, "nv": 123, "vasc": 3},
    "test": {"akiec": 43, "bcc": 93, "bkl": 217, "df": 44, "mel": 171, "nv": 908, "vasc": 35},
}
"""Part -> images per class; for the test part, only images that count."""
PARTS: Final = tuple(PART_COUNTS)

INFO: Final = DatasetInfo(
    name="isic2018",
    title="ISIC 2018 challenge, Task 3: lesion diagnosis",
    view="dermoscopic",
    citation=(
        "Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368; "
        "Tschandl et al., The HAM10000 dataset, Scientific Data 5:180161 (2018)"
    ),
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "https://challenge.isic-archive.com/data/#2018: ISIC2018_Task3_Training_Input.zip, "
        "ISIC2018_Task3_Training_GroundTruth.zip, ISIC2018_Task3_Training_LesionGroupings.csv; for the other parts the "
        "Input and GroundTruth zips of Validation and Test"
    ),
    published_counts=PART_COUNTS["train"],
    published_for=counts_of_parts(PART_COUNTS),
)


def read_isic2018(
    root: str, parts: Sequence[str] = ("train",), need_lesion_groups: bool = True, ignore: Sequence[str] = ()
) -> pd.DataFrame:
    """Returns the table of ISIC 2018 Task 3; `official_split` is the part.

    Args:
        root: folder with the download.
        parts: `train` (10,015 images), `val` (193) and `test` (1,511).
        need_lesion_groups: whether the file with the lesion ids of the training part is required. Without it, every
            image counts as a lesion by itself, and a split may separate images of one lesion.
        ignore: patterns of files that are not read.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: the challenge does not have such a part.
    """
    wanted = check_parts(parts, PARTS, "isic2018")
    files = SourceFiles(root, INFO.title, ignore)
    frames = {part: read_one_hot(files, CHALLENGE, part, CODES, UNSCORED) for part in wanted}
    if "train" in wanted and (need_lesion_groups or files.find(GROUPS)):
        frames["train"] = _with_lesions(frames["train"], files)
    frame = pd.concat(frames.values(), ignore_index=True)
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _with_lesions(frame: pd.DataFrame, files: SourceFiles) -> pd.DataFrame:
    locator = files.require(GROUPS, without=WITHOUT_GROUPS)
    needed = {"image": "image_id", "lesion_id": "lesion_id"}
    confirmed = {"diagnosis_confirm_type": "leaks_diagnosis_confirm_type"}
    groups = named_columns(read_csv(locator), files.shorten(locator), needed, confirmed)
    return join_rows(frame, groups, "image_id", files.shorten(locator), f"{INFO.title}, train", WITHOUT_GROUPS)
