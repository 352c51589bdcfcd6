"""PAD-UFES-20: 2,298 phone photographs of six diagnoses, with the patients' answers about the lesion."""

from __future__ import annotations

from typing import Final

import pandas as pd

from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.source_files import SourceFiles, read_csv, require_columns
from lesion_exp.dataset.table import UNKNOWN, locate, map_labels, mark_leaks, standardize

CODES: Final = {"ACK": "ak", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SCC": "scc", "SEK": "sk"}
SYMPTOMS: Final = ("itch", "grew", "hurt", "changed", "bleed", "elevation")
COLUMNS: Final = (
    *("patient_id", "lesion_id", "age", "gender", "fitspatrick", "region", "diagnostic"),
    *SYMPTOMS,
    *("img_id", "biopsed"),
)

INFO: Final = DatasetInfo(
    name="pad_ufes_20",
    title="PAD-UFES-20",
    citation="Pacheco et al., PAD-UFES-20: a skin lesion dataset, Data in Brief 32:106221 (2020)",
    licence="CC BY 4.0",
    where="doi:10.17632/zr7vgbcyr2.1: metadata.csv and imgs_part_1.zip to imgs_part_3.zip",
    published_counts={"ak": 730, "bcc": 845, "mel": 52, "nv": 244, "scc": 192, "sk": 235},
)


def read_pad_ufes_20(root: str) -> pd.DataFrame:
    """The table of PAD-UFES-20. The images are clinical photographs: the set has no dermoscopic ones.

    Own columns: `skin_tone` (Fitzpatrick type, 1 to 6; NaN unknown), the symptoms (`itch`, `grew`, `hurt`, `changed`,
    `bleed`, `elevation`: true, false or unknown), the patient's history as published (empty where the lesion was not
    biopsied, which tells much of the diagnosis), and `leaks_biopsed`: every malignant lesion was biopsied.

    Raises:
        DataError: a file is missing or is not in the published format.
    """
    files = SourceFiles(root, INFO.title)
    locator = files.require("metadata.csv")
    frame = read_csv(locator, dtype={"img_id": str, "lesion_id": str})
    require_columns(frame, COLUMNS, files.shorten(locator))
    frame = map_labels(frame, "diagnostic", CODES).drop(columns="diagnostic")
    frame["image_id"] = frame.pop("img_id").str.strip().str.replace(r"\.png$", "", case=False, regex=True)
    known = frame["patient_id"].notna() & frame["lesion_id"].notna()
    # Lesions are numbered; with the patient before it the number stays unique whoever is added.
    frame["lesion_id"] = (frame["patient_id"].astype(str) + "_" + frame["lesion_id"].astype(str)).where(known, None)
    frame["skin_tone"] = pd.to_numeric(frame.pop("fitspatrick"), errors="coerce").where(lambda tone: tone.between(1, 6))
    for symptom in SYMPTOMS:
        answers = frame[symptom].astype(str).str.strip().str.lower()
        frame[symptom] = answers.where(answers.isin(("true", "false")), UNKNOWN)
    frame = mark_leaks(frame.rename(columns={"gender": "sex", "region": "site"}), "biopsed")
    frame["image_path"] = locate(frame["image_id"], files.by_stem("pat_*.png", "pat_*.jpg"))
    return standardize(frame, INFO.name)
