"""Reads HAM10000: 10,015 dermoscopic images of 7,470 lesions with seven diagnoses, with lesion masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset import isic2018
from lesion_exp.dataset.image_files import locate_images, locate_masks
from lesion_exp.dataset.isic_challenge import check_parts, counts_of_parts, ground_truth_name, read_one_hot
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, standardize
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv

METADATA: Final = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
COLUMNS: Final = {
    **{name: name for name in ("lesion_id", "image_id", "dx", "age", "sex")},
    "dx_type": "leaks_dx_type",
    "localization": "site",
}
"""Columns of the metadata -> their names in the table (`label` is made of `dx`)."""
CODES: Final = {code: code for code in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")}

PARTS: Final = ("train", "test")

INFO: Final = DatasetInfo(
    name="ham10000",
    title="HAM10000",
    view="dermoscopic",
    citation="Tschandl, Rosendahl and Kittler, The HAM10000 dataset, Scientific Data 5:180161 (2018)",
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "doi:10.7910/DVN/DBW86T: HAM10000_images_part_1.zip, HAM10000_images_part_2.zip, HAM10000_metadata, and for "
        "masks HAM10000_segmentations_lesion_tschandl.zip; for the test part ISIC2018_Task3_Test_Images.zip and "
        "ISIC2018_Task3_Test_GroundTruth.csv"
    ),
    published_counts=isic2018.PART_COUNTS["train"],
    published_for=counts_of_parts(isic2018.PART_COUNTS),
)


def read_ham10000(root: str, parts: Sequence[str] = ("train",), ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of HAM10000.

    `official_split` is the part. The column `leaks_dx_type` is how the diagnosis was confirmed: every melanoma by
    histology, and only nevi by follow-up.

    Args:
        root: folder with the download.
        parts: `train` (10,015 images) and `test` (the 1,511 images of the ISIC 2018 test set).
        ignore: patterns of files that are not read.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: a part other than `train` and `test`.
    """
    wanted = check_parts(parts, PARTS, "ham10000")
    files = SourceFiles(root, INFO.title, ignore)
    frames = [_read_metadata(files, METADATA, "train")] if "train" in wanted else []
    if "test" in wanted:
        frames.append(_read_test(files))
    frame = pd.concat(frames, ignore_index=True)
    frame["mask_path"] = locate_masks(frame["image_id"], files, "_segmentation")
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _read_metadata(files: SourceFiles, names: Sequence[str], part: str) -> pd.DataFrame:
    locator = files.require(*names)
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS)
    frame["image_id"] = plain_ids(frame["image_id"])
    return map_labels(frame, "dx", CODES).drop(columns="dx").assign(official_split=part)


def _read_test(files: SourceFiles) -> pd.DataFrame:
    """Returns the test part; its file has the columns of the metadata (archive) or is one-hot (challenge)."""
    name = ground_truth_name(isic2018.CHALLENGE, "test")
    locator = files.require(f"{name}.csv", f"{name}.tab", name)
    if "dx" in read_csv(locator).columns:
        frame = _read_metadata(files, (f"{name}.csv", f"{name}.tab", name), "test")
        return frame[~frame["image_id"].isin(isic2018.UNSCORED)]
    return read_one_hot(files, isic2018.CHALLENGE, "test", isic2018.CODES, isic2018.UNSCORED)
