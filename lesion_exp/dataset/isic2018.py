"""ISIC 2018 Task 3: the images of HAM10000 as a challenge, with validation and test parts of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.isic_challenge import IMAGES, check_parts, read_one_hot
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import locate, named_columns, standardize
from lesion_exp.text_table import read_csv

CHALLENGE: Final = "ISIC2018_Task3"
GROUPS: Final = "ISIC2018_Task3_Training_LesionGroupings.csv"
CODES: Final = {name: name.lower() for name in ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")}
UNSCORED: Final = frozenset({"ISIC_0035068"})
"""The test image that the organisers' scorer gives weight zero: 1,511 of 1,512 images count."""

INFO: Final = DatasetInfo(
    name="isic2018",
    title="ISIC 2018 challenge, Task 3: lesion diagnosis",
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
    published_counts={"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142},
)


def read_isic2018(root: str, parts: Sequence[str] = ("train",), need_lesion_groups: bool = True) -> pd.DataFrame:
    """The table of the asked `parts` (`train`, `val`, `test`), 10,015, 193 and 1,511 images, in `official_split`.

    The lesion ids of the training part come from a file of their own; without it images of one lesion would be
    taken for different lesions, so it must be there unless `need_lesion_groups` is false.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: a part that the challenge does not have.
    """
    wanted = check_parts(parts, ("train", "val", "test"), "isic2018")
    files = SourceFiles(root, INFO.title)
    frame = pd.concat([read_one_hot(files, CHALLENGE, part, CODES, UNSCORED) for part in wanted], ignore_index=True)
    if "train" in wanted and (need_lesion_groups or files.find(GROUPS)):
        frame = _with_lesions(frame, files)
    frame["image_path"] = locate(frame["image_id"], files.by_stem(*IMAGES))
    return standardize(frame, INFO.name)


def _with_lesions(frame: pd.DataFrame, files: SourceFiles) -> pd.DataFrame:
    locator = files.require(GROUPS)
    needed = {"image": "image_id", "lesion_id": "lesion_id"}
    confirmed = {"diagnosis_confirm_type": "leaks_diagnosis_confirm_type"}
    groups = named_columns(read_csv(locator), files.shorten(locator), needed, confirmed)
    return frame.merge(groups.drop_duplicates("image_id"), on="image_id", how="left")
