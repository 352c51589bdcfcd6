"""Reads ISIC 2024 (SLICE-3D): 401,059 tiles from total-body photographs, 393 of them malignant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.archive import file_of, join_locator, split_locator
from lesion_exp.dataset.image_files import Choice, ImageNames, locate_files, locate_images
from lesion_exp.dataset.joins import join_rows
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, mark_leaks, named_columns, require_columns, standardize
from lesion_exp.errors import DataError
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv, typed

METADATA: Final = "train-metadata.csv"
GROUND_TRUTHS: Final = ("ISIC_2024_Training_GroundTruth.csv", "ISIC_2024_Permissive_Training_GroundTruth.csv")
"""The labels as the ISIC archive publishes them, of all images and of those with a licence for more uses."""
TRUTH: Final = {"isic_id": "isic_id", "malignant": "target"}
"""Columns of these labels -> the names that Kaggle gives them."""
ARCHIVE_METADATA: Final = "metadata.csv"
"""The other columns, in the archive's folder of images."""
IMAGE_FILE: Final = "train-image.hdf5"
COLUMNS: Final = {"isic_id": "image_id", "patient_id": "patient_id", "target": "leaks_target"}
"""Columns of the metadata -> their names in the table."""
OPTIONAL: Final = {"lesion_id": "lesion_id", "age_approx": "age", "anatom_site_general": "site", "sex": "sex"}
CODES: Final = {"0": "benign", "1": "malignant"}
LEAKING: Final = (
    "iddx_*", "mel_*",
    "diagnosis*", "benign_malignant", "melanocytic", "concomitant_biopsy",  # as exports of the ISIC archive call them
)  # fmt: skip

INFO: Final = DatasetInfo(
    name="isic2024",
    title="ISIC 2024 challenge (SLICE-3D)",
    view="tiles of total-body photographs",
    citation=(
        "Kurtansky et al., The SLICE-3D dataset: 400,000 skin lesion image crops extracted from 3D TBP for skin cancer "
        "detection, Scientific Data 11:884 (2024)"
    ),
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "https://www.kaggle.com/competitions/isic-2024-challenge: train-image.hdf5 (unzipped), train-metadata.csv; or "
        "https://challenge.isic-archive.com/data/#2024: ISIC_2024_Training_Input.zip, "
        "ISIC_2024_Training_GroundTruth.csv"
    ),
    published_counts={"benign": 400_666, "malignant": 393},
)


def read_isic2024(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of ISIC 2024.

    The images are entries of `train-image.hdf5`, named by `isic_id`, or single files. The metadata are those of Kaggle,
    or the ground truth and the `metadata.csv` of the ISIC archive. Own columns: the published ones.
    Those that reveal the label (`target`, and `LEAKING`) begin with `leaks_`.

    Raises:
        DataError: a file is missing, still zipped or not in the published format.
    """
    files = SourceFiles(root, INFO.title, ignore)
    frame = named_columns(*_published(files), COLUMNS, OPTIONAL)
    frame = mark_leaks(map_labels(frame, "leaks_target", CODES), *LEAKING)
    frame["leaks_target"] = typed(frame["leaks_target"])
    frame["image_id"] = plain_ids(frame["image_id"])
    frame["image_path"] = _locate(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _published(files: SourceFiles) -> tuple[pd.DataFrame, str]:
    """Returns the columns of the metadata with `target`, and the names of their files.

    Kaggle has one file. The archive has the labels in a file of their own.
    """
    locator = files.require(METADATA, *GROUND_TRUTHS)
    frame, where = read_csv(locator), files.shorten(locator)
    if "target" in frame or "malignant" not in frame:
        return frame, where
    require_columns(frame, TRUTH, where)
    further = files.require(ARCHIVE_METADATA)
    metadata, of_metadata = read_csv(further), files.shorten(further)
    require_columns(metadata, ["isic_id"], of_metadata)
    frame = frame[list(TRUTH)].rename(columns=TRUTH)
    return join_rows(frame, metadata, "isic_id", of_metadata, INFO.title), f"{where} and {of_metadata}"


def _locate(ids: pd.Series, files: SourceFiles) -> pd.Series:
    if not files.find(IMAGE_FILE) and files.images:
        return locate_images(ids, files)
    container = files.require(IMAGE_FILE)
    if split_locator(container)[0]:
        raise DataError(
            f"expected {IMAGE_FILE} unpacked, but it lies in a zip ({files.shorten(container)}), from which single "
            f"images cannot be read; unzip {file_of(container)}"
        )
    entries = {key: join_locator(container, key) for key in _keys(container)}
    names = ImageNames(entries.items())
    return locate_files(ids, names.find, list(entries.values()), files, Choice())


def _keys(path: str) -> list[str]:
    import h5py  # only this data set needs it

    try:
        with h5py.File(path, "r") as opened:
            return list(opened.keys())
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"expected an HDF5 file at {path}, but it cannot be opened: {error}; download it again"
        ) from error
