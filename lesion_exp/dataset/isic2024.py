"""Reads ISIC 2024 (SLICE-3D): 401,059 tiles from total-body photographs, 393 of them malignant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.archive import file_of, join_locator, split_locator
from lesion_exp.dataset.image_files import Choice, ImageNames, locate_files, locate_images
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, mark_leaks, named_columns, standardize
from lesion_exp.errors import DataError
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv, typed

METADATA: Final = "train-metadata.csv"
IMAGE_FILE: Final = "train-image.hdf5"
COLUMNS: Final = {"isic_id": "image_id", "patient_id": "patient_id", "target": "leaks_target"}
"""Columns of the metadata -> their names in the table."""
OPTIONAL: Final = {"lesion_id": "lesion_id", "age_approx": "age", "anatom_site_general": "site", "sex": "sex"}
CODES: Final = {"0": "benign", "1": "malignant"}
LEAKING: Final = ("iddx_*", "mel_*")

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
    where="https://www.kaggle.com/competitions/isic-2024-challenge: train-image.hdf5 (unzipped), train-metadata.csv",
    published_counts={"benign": 400_666, "malignant": 393},
)


def read_isic2024(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of ISIC 2024.

    The images are entries of `train-image.hdf5`, named by `isic_id`, or single files. Own columns: the published ones.
    Those that reveal the label (`target`, `iddx_*`, `mel_*`) begin with `leaks_`.

    Raises:
        DataError: a file is missing, still zipped or not in the published format.
    """
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require(METADATA)
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS, OPTIONAL)
    frame = mark_leaks(map_labels(frame, "leaks_target", CODES), *LEAKING)
    frame["leaks_target"] = typed(frame["leaks_target"])
    frame["image_id"] = plain_ids(frame["image_id"])
    frame["image_path"] = _locate(frame["image_id"], files)
    return standardize(frame, INFO.name)


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
