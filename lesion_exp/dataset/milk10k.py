"""Reads MILK10k: 5,240 lesions with eleven diagnoses, each with a dermoscopic and a clinical photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.image_files import locate_beside, locate_images
from lesion_exp.dataset.joins import join_rows
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, one_hot_label, require_columns, standardize
from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv

CLASSES: Final = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
CODES: Final = {name: name.lower() for name in CLASSES}
DERMOSCOPIC: Final = "dermoscopic"
CLINICAL: Final = "clinical: close-up"
COLUMNS: Final = {
    **{name: name for name in ("lesion_id", "image_type", "sex", "site")},
    "isic_id": "image_id",
    "age_approx": "age",
    "skin_tone_class": "skin_tone",
}
"""Columns of the metadata -> their names in the table."""

INFO: Final = DatasetInfo(
    name="milk10k",
    title="MILK10k",
    view="both",
    citation="MILK study team, MILK10k, ISIC Archive (2025), doi:10.34970/648456",
    licence="CC BY-NC 4.0",
    archive="isic",
    where=(
        "https://challenge.isic-archive.com/data/#milk10k: MILK10k_Training_Input.zip, "
        "MILK10k_Training_GroundTruth.csv, MILK10k_Training_Metadata.csv"
    ),
    published_counts={
        "akiec": 303, "bcc": 2522, "ben_oth": 44, "bkl": 544, "df": 52, "inf": 50, "mal_oth": 9, "mel": 450, "nv": 746,
        "sccka": 473, "vasc": 47,
    },
)  # fmt: skip


def read_milk10k(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of MILK10k's training part, with one row per lesion.

    `image_path` is the dermoscopic photograph, whose name is the `image_id`, and `clinical_path` the close-up. Own
    columns: `clinical_id`, `skin_tone` (1 light to 6 very dark, in the direction of Fitzpatrick's types, which is the
    reverse of the published `skin_tone_class`; NaN if unknown), and the other columns of the dermoscopic photograph's
    metadata as published.

    Raises:
        DataError: a file is missing or is not in the published format, or a lesion has two photographs of one kind.
    """
    files = SourceFiles(root, INFO.title, ignore)
    truth_locator = files.require("MILK10k_Training_GroundTruth.csv")
    truth = read_csv(truth_locator)
    require_columns(truth, ("lesion_id", *CLASSES), files.shorten(truth_locator))
    raw = one_hot_label(truth, CLASSES, "the ground truth of MILK10k")
    frame = map_labels(pd.DataFrame({"lesion_id": truth["lesion_id"], "raw": raw}), "raw", CODES).drop(columns="raw")
    locator = files.require("MILK10k_Training_Metadata.csv")
    metadata = named_columns(read_csv(locator), files.shorten(locator), COLUMNS, made=("clinical_id",))
    metadata["image_id"] = plain_ids(metadata["image_id"])
    kind = metadata["image_type"].str.lower()
    dermoscopic = _one_a_lesion(metadata[kind == DERMOSCOPIC], DERMOSCOPIC).drop(columns="image_type")
    close_up = _one_a_lesion(metadata[kind == CLINICAL], CLINICAL)
    close_up = close_up[["lesion_id", "image_id"]].rename(columns={"image_id": "clinical_id"})
    where = files.shorten(locator)
    frame = join_rows(frame, dermoscopic, "lesion_id", f"{where} ({DERMOSCOPIC})", INFO.title)
    frame = join_rows(frame, close_up, "lesion_id", f"{where} ({CLINICAL})", INFO.title, optional=True)
    frame["image_path"] = locate_images(frame["image_id"], files, others=[frame["clinical_id"]])
    # A lesion without a dermoscopic photograph is reported under its lesion id.
    frame["image_id"] = frame["image_id"].where(frame["image_id"].notna(), frame["lesion_id"])
    frame["clinical_path"] = locate_beside(frame["clinical_id"], files, "clinical photographs")
    frame["skin_tone"] = 6 - pd.to_numeric(frame["skin_tone"], errors="coerce")
    return standardize(frame, INFO.name)


def _one_a_lesion(photographs: pd.DataFrame, kind: str) -> pd.DataFrame:
    doubled = photographs.loc[photographs["lesion_id"].duplicated(), "lesion_id"]
    if len(doubled):
        raise DataError(
            f"expected one photograph '{kind}' for each lesion in the metadata of MILK10k, but {doubled.nunique()} "
            f"lesions have more:\n{first_cases(doubled.unique())}\ndownload the file again"
        )
    return photographs
