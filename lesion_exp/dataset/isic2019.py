"""Reads ISIC 2019: 25,331 dermoscopic images with eight diagnoses from HAM10000, BCN20000 and MSK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.isic_challenge import PART_NAMES, check_parts, counts_of_parts, read_one_hot
from lesion_exp.dataset.joins import join_rows
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, named_columns, standardize
from lesion_exp.text_table import read_csv

CHALLENGE: Final = "ISIC_2019"
CODES: Final = {name: name.lower() for name in ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")}
METADATA_COLUMNS: Final = {"image": "image_id", "age_approx": "age", "anatom_site_general": "site", "sex": "sex"}
"""Columns of the metadata -> their names in the table."""

PART_COUNTS: Final = {
    "train": {"ak": 867, "bcc": 3323, "bkl": 2624, "df": 239, "mel": 4522, "nv": 12875, "scc": 628, "vasc": 253},
    "test": {
        "ak": 374, "bcc": 975, "bkl": 660, "df": 91, "mel": 1327, "nv": 2495, "scc": 165, "unk": 2047, "vasc": 104,
    },
}  # fmt: skip
"""Part -> images per class."""
PARTS: Final = tuple(PART_COUNTS)

INFO: Final = DatasetInfo(
    name="isic2019",
    title="ISIC 2019 challenge",
    view="dermoscopic",
    citation=(
        "Tschandl et al., Scientific Data 5:180161 (2018); Codella et al., arXiv:1710.05006; "
        "Hernandez-Perez et al., BCN20000, Scientific Data 11:641 (2024)"
    ),
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "https://challenge.isic-archive.com/data/#2019: ISIC_2019_Training_Input.zip, "
        "ISIC_2019_Training_GroundTruth.csv, ISIC_2019_Training_Metadata.csv; for the test part "
        "ISIC_2019_Test_Input.zip, ISIC_2019_Test_GroundTruth.csv, ISIC_2019_Test_Metadata.csv"
    ),
    published_counts=PART_COUNTS["train"],
    published_for=counts_of_parts(PART_COUNTS),
)


def read_isic2019(root: str, parts: Sequence[str] = ("train",), ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of ISIC 2019; `official_split` is the part.

    Lesion ids are known for most images of the training part and for none of the test part.

    Args:
        root: folder with the download.
        parts: `train` (25,331 images) and `test`; only the test part has the class `unk`.
        ignore: patterns of files that are not read.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: the challenge does not have such a part.
    """
    wanted = check_parts(parts, PARTS, "isic2019")
    files = SourceFiles(root, INFO.title, ignore)
    frame = pd.concat([_read_part(files, part) for part in wanted], ignore_index=True)
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _read_part(files: SourceFiles, part: str) -> pd.DataFrame:
    frame = read_one_hot(files, CHALLENGE, part, CODES)
    locator = files.require(f"{CHALLENGE}_{PART_NAMES[part]}_Metadata.csv")
    lesions = {"lesion_id": "lesion_id"}  # only the training part has them
    metadata = named_columns(read_csv(locator), files.shorten(locator), METADATA_COLUMNS, lesions)
    return join_rows(frame, metadata, "image_id", files.shorten(locator), f"{INFO.title}, {part}")
