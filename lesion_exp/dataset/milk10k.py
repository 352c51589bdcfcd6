"""MILK10k: 5,240 lesions of eleven diagnoses, each with a dermoscopic and a clinical photograph."""

from __future__ import annotations

from typing import Final

import pandas as pd

from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.source_files import SourceFiles, read_csv, require_columns
from lesion_exp.dataset.table import locate, map_labels, one_hot_label, standardize
from lesion_exp.errors import DataError, first_cases

CLASSES: Final = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
CODES: Final = {name: name.lower() for name in CLASSES}
DERMOSCOPIC: Final = "dermoscopic"
CLINICAL: Final = "clinical: close-up"
COLUMNS: Final = ("lesion_id", "image_type", "isic_id", "age_approx", "sex", "skin_tone_class", "site")

INFO: Final = DatasetInfo(
    name="milk10k",
    title="MILK10k",
    citation="MILK study team, MILK10k, ISIC Archive (2025), doi:10.34970/648456",
    licence="CC BY-NC 4.0",
    where=(
        "https://challenge.isic-archive.com/data/#milk10k: MILK10k_Training_Input.zip, "
        "MILK10k_Training_GroundTruth.csv, MILK10k_Training_Metadata.csv"
    ),
    published_counts={
        "akiec": 303, "bcc": 2522, "ben_oth": 44, "bkl": 544, "df": 52, "inf": 50, "mal_oth": 9, "mel": 450, "nv": 746,
        "sccka": 473, "vasc": 47,
    },
)  # fmt: skip


def read_milk10k(root: str) -> pd.DataFrame:
    """The table of MILK10k's training part, a row a lesion.

    `image_path` is the dermoscopic photograph, whose name is the `image_id`, `clinical_path` the close-up. Own columns:
    `clinical_id`, `skin_tone` (1 light to 6 very dark, the set's `skin_tone_class` turned round to run as
    Fitzpatrick's types do; NaN unknown), and the other columns of the dermoscopic photograph's metadata as published.

    Raises:
        DataError: a file is missing or is not in the published format; a lesion has two photographs of one kind.
    """
    files = SourceFiles(root, INFO.title)
    truth = _read(files, "MILK10k_Training_GroundTruth.csv", ("lesion_id", *CLASSES))
    metadata = _read(files, "MILK10k_Training_Metadata.csv", COLUMNS)
    truth["raw"] = one_hot_label(truth, CLASSES, "the ground truth of MILK10k")
    frame = map_labels(truth[["lesion_id", "raw"]], "raw", CODES).drop(columns="raw")
    kind = metadata["image_type"].astype(str).str.strip().str.lower()
    dermoscopic = _one_a_lesion(metadata[kind == DERMOSCOPIC], DERMOSCOPIC).drop(columns="image_type")
    close_up = _one_a_lesion(metadata[kind == CLINICAL], CLINICAL)
    close_up = close_up[["lesion_id", "isic_id"]].rename(columns={"isic_id": "clinical_id"})
    frame = frame.merge(dermoscopic, on="lesion_id", how="left").merge(close_up, on="lesion_id", how="left")
    # A lesion without a dermoscopic photograph is reported under its own name.
    frame["image_id"] = frame["isic_id"].where(frame["isic_id"].notna(), frame["lesion_id"])
    photographs = files.by_stem("isic_*.jpg", "isic_*.png")
    frame["image_path"] = locate(frame.pop("isic_id"), photographs)
    frame["clinical_path"] = locate(frame["clinical_id"], photographs)
    frame["skin_tone"] = 6 - pd.to_numeric(frame.pop("skin_tone_class"), errors="coerce")
    return standardize(frame.rename(columns={"age_approx": "age"}), INFO.name)


def _read(files: SourceFiles, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    locator = files.require(name)
    frame = read_csv(locator, dtype={"lesion_id": str, "isic_id": str})
    require_columns(frame, columns, files.shorten(locator))
    return frame


def _one_a_lesion(photographs: pd.DataFrame, kind: str) -> pd.DataFrame:
    doubled = photographs.loc[photographs["lesion_id"].duplicated(), "lesion_id"]
    if len(doubled):
        raise DataError(
            f"expected one photograph '{kind}' a lesion in the metadata of MILK10k, but {doubled.nunique()} lesions "
            f"have more:\n{first_cases(doubled.unique())}\nis it the file of this data set, unchanged?"
        )
    return photographs
