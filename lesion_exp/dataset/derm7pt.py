"""Reads derm7pt: 1,011 cases, each with a dermoscopic and a clinical photograph, with an official split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import pandas as pd

from lesion_exp.dataset.image_files import locate_beside, locate_images
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, require_columns, standardize
from lesion_exp.errors import DataError, check_choice, first_cases
from lesion_exp.text_table import read_csv

Grouping = Literal["five", "fine"]

COLUMNS: Final = {
    "case_num": "lesion_id",
    "diagnosis": "diagnosis",
    "location": "site",
    "sex": "sex",
    "management": "leaks_management",
    "clinic": "clinical_path",
    "derm": "image_path",
}
"""Columns of the metadata -> their names in the table (`label` is made of `diagnosis`)."""
INDEX_FILES: Final = {"train": "train_indexes.csv", "val": "valid_indexes.csv", "test": "test_indexes.csv"}
FINE_CODES: Final = {
    "basal cell carcinoma": "bcc",
    "blue nevus": "blue_nevus",
    "clark nevus": "clark_nevus",
    "combined nevus": "combined_nevus",
    "congenital nevus": "congenital_nevus",
    "dermal nevus": "dermal_nevus",
    "recurrent nevus": "recurrent_nevus",
    "reed or spitz nevus": "spitz_nevus",
    "melanoma": "mel",
    "melanoma (in situ)": "mel_in_situ",
    "melanoma (less than 0.76 mm)": "mel",
    "melanoma (0.76 to 1.5 mm)": "mel",
    "melanoma (more than 1.5 mm)": "mel",
    "melanoma metastasis": "mel_metastasis",
    "dermatofibroma": "df",
    "lentigo": "lentigo",
    "melanosis": "melanosis",
    "miscellaneous": "misc",
    "vascular lesion": "vasc",
    "seborrheic keratosis": "sk",
}
_MISCELLANEOUS: Final = frozenset({"df", "lentigo", "melanosis", "misc", "vasc"})

COUNTS: Final = {
    "five": {"bcc": 42, "mel": 252, "misc": 97, "nv": 575, "sk": 45},
    "fine": {
        "bcc": 42, "blue_nevus": 28, "clark_nevus": 399, "combined_nevus": 13, "congenital_nevus": 17,
        "dermal_nevus": 33, "df": 20, "lentigo": 24, "mel": 184, "mel_in_situ": 64, "mel_metastasis": 4,
        "melanosis": 16, "misc": 8, "recurrent_nevus": 6, "sk": 45, "spitz_nevus": 79, "vasc": 29,
    },
}  # fmt: skip
"""`grouping` -> cases per class."""

INFO: Final = DatasetInfo(
    name="derm7pt",
    title="derm7pt",
    view="both",
    citation=(
        "Kawahara et al., Seven-point checklist and skin lesion classification using multitask multimodal neural nets, "
        "IEEE Journal of Biomedical and Health Informatics 23:538-546 (2019)"
    ),
    licence="on request, for research",
    where="https://derm.cs.sfu.ca: release_v0.zip, or its folders images and meta",
    published_counts=COUNTS["five"],
    published_for=lambda grouping="five", **_: COUNTS[grouping],
)


def read_derm7pt(root: str, grouping: Grouping = "five", ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of derm7pt, with one row per case.

    `image_path` is the dermoscopic photograph, `clinical_path` the clinical one. Own columns: `official_split`; the
    checklist (`pigment_network`, `streaks`, ...) and `seven_point_score`; `leaks_management` (the treatment follows
    from the diagnosis) and `leaks_notes`. Ages are not published.

    Args:
        root: folder with the download.
        grouping: `five` classes as in the publication (bcc, mel, misc, nv, sk), or the `fine` diagnoses.
        ignore: patterns of files that are not read.

    Raises:
        DataError: a file is missing or is not in the published format.
        ConfigError: there is no such grouping.
    """
    check_choice("dataset.grouping", grouping, get_args(Grouping))
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require("meta/meta.csv", "meta.csv")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS, {"notes": "leaks_notes"})
    frame["official_split"] = _official_split(files, len(frame))
    codes = FINE_CODES if grouping == "fine" else {name: _group(code) for name, code in FINE_CODES.items()}
    frame = map_labels(frame, "diagnosis", codes).drop(columns="diagnosis")
    frame["image_id"] = "derm7pt_" + frame["lesion_id"].str.zfill(4)
    clinical = frame["clinical_path"]
    frame["image_path"] = locate_images(frame["image_path"], files, others=[clinical])
    frame["clinical_path"] = locate_beside(clinical, files, "clinical photographs")
    return standardize(frame, INFO.name)


def _group(code: str) -> str:
    if code in _MISCELLANEOUS:
        return "misc"
    return "nv" if code.endswith("nevus") else "mel" if code.startswith("mel_") else code


def _official_split(files: SourceFiles, num_cases: int) -> list[str | None]:
    """Returns the part of each row of the table. The index files hold row numbers, counted from 0."""
    parts: list[str | None] = [None] * num_cases
    for part, name in INDEX_FILES.items():
        locator = files.require(f"meta/{name}", name)
        indexes = read_csv(locator)
        require_columns(indexes, ["indexes"], files.shorten(locator))
        rows = pd.to_numeric(indexes["indexes"], errors="coerce")
        wrong = [value for value, row in zip(indexes["indexes"], rows, strict=True) if not 0 <= row < num_cases]
        if wrong:
            raise DataError(
                f"expected row numbers from 0 to {num_cases - 1} in {files.shorten(locator)}, got\n"
                f"{first_cases(wrong)}\n"
                f"the index files and meta.csv must be of the same release; download them again"
            )
        for row in rows.astype(int):
            parts[row] = part
    return parts
