"""Reads DDI: 656 clinical photographs, benign or malignant by biopsy, in three groups of skin tone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, standardize
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv

CODES: Final = {"true": "malignant", "false": "benign", "1": "malignant", "0": "benign"}
COLUMNS: Final = {"DDI_file": "image_id", "skin_tone": "skin_tone", "malignant": "malignant"}
"""Columns of the metadata -> their names in the table (`label` is made of `malignant`)."""

INFO: Final = DatasetInfo(
    name="ddi",
    title="DDI (Diverse Dermatology Images)",
    view="clinical",
    citation=(
        "Daneshjou et al., Disparities in dermatology AI performance on a diverse, curated clinical image set, Science "
        "Advances 8:eabq6147 (2022)"
    ),
    licence="Stanford University research use agreement",
    where="https://ddi-dataset.github.io: ddidiversedermatologyimages.zip, or its images and ddi_metadata.csv",
    published_counts={"benign": 485, "malignant": 171},
)


def read_ddi(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of DDI.

    Own columns: `skin_tone` (12, 34 or 56: Fitzpatrick types I-II, III-IV, V-VI; NaN if unknown) and `leaks_disease`,
    the diagnosis. Lesions and patients have no ids.

    Raises:
        DataError: the table is missing or is not in the published format.
    """
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require("ddi_metadata.csv")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS, {"disease": "leaks_disease"})
    unnamed = [column for column in frame.columns if column == "" or column.startswith("Unnamed")]
    frame = map_labels(frame.drop(columns=unnamed), "malignant", CODES).drop(columns="malignant")
    frame["image_id"] = plain_ids(frame["image_id"])
    frame["skin_tone"] = pd.to_numeric(frame["skin_tone"], errors="coerce")
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)
