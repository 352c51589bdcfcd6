"""Reads PAD-UFES-20: 2,298 phone photographs with six diagnoses, and the patients' answers about the lesion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.missing_values import known_ids, missing_only_without
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import (
    STANDARD_COLUMNS,
    UNKNOWN,
    DatasetInfo,
    map_labels,
    named_columns,
    standardize,
)
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv, typed

CODES: Final = {"ACK": "ak", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SCC": "scc", "SEK": "sk"}
_BIOPSED: Final = "leaks_biopsed"
SYMPTOMS: Final = ("itch", "grew", "hurt", "changed", "bleed", "elevation")
COLUMNS: Final = {
    **{name: name for name in ("patient_id", "lesion_id", "age", "diagnostic", *SYMPTOMS)},
    "gender": "sex",
    "fitspatrick": "skin_tone",
    "region": "site",
    "img_id": "image_id",
    "biopsed": _BIOPSED,
}
"""Columns of the metadata -> their names in the table (`label` is made of `diagnostic`)."""

INFO: Final = DatasetInfo(
    name="pad_ufes_20",
    title="PAD-UFES-20",
    view="clinical",
    citation="Pacheco et al., PAD-UFES-20: a skin lesion dataset, Data in Brief 32:106221 (2020)",
    licence="CC BY 4.0",
    where="doi:10.17632/zr7vgbcyr2.1: metadata.csv and imgs_part_1.zip to imgs_part_3.zip",
    published_counts={"ak": 730, "bcc": 845, "mel": 52, "nv": 244, "scc": 192, "sk": 235},
)


def read_pad_ufes_20(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of PAD-UFES-20. Its images are clinical photographs; the set has no dermoscopic ones.

    Own columns: `skin_tone` (Fitzpatrick type, 1 to 6; NaN if unknown), the symptoms (`itch`, `grew`, `hurt`,
    `changed`, `bleed`, `elevation`: true, false or unknown), the patient's history as published, and `leaks_biopsed`
    (every malignant lesion was biopsied). The history, `sex` and `skin_tone` are empty for most lesions that were not
    biopsied, which is informative about the diagnosis and recorded as a finding.

    Raises:
        DataError: a file is missing or is not in the published format.
    """
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require("metadata.csv")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS)
    frame = map_labels(frame, "diagnostic", CODES).drop(columns="diagnostic")
    frame["image_id"] = plain_ids(frame["image_id"])
    for column in ("patient_id", "lesion_id"):
        frame[column] = known_ids(frame[column], f"{column} of {INFO.name}")
    known = frame["patient_id"].notna() & frame["lesion_id"].notna()
    # Lesions are numbered; with the patient as prefix the numbers stay unique in later releases too.
    frame["lesion_id"] = (frame["patient_id"].astype(str) + "_" + frame["lesion_id"].astype(str)).where(known, None)
    frame["skin_tone"] = pd.to_numeric(frame["skin_tone"], errors="coerce").where(lambda tone: tone.between(1, 6))
    for symptom in SYMPTOMS:
        answers = frame[symptom].astype(str).str.strip().str.lower()
        frame[symptom] = answers.where(answers.isin(("true", "false")), UNKNOWN)
    frame[_BIOPSED] = typed(frame[_BIOPSED])
    frame["image_path"] = locate_images(frame["image_id"], files)
    table = standardize(frame, INFO.name)
    _record_telling(table)
    return table


def _record_telling(table: pd.DataFrame) -> None:
    """Records which columns lack values of those lesions alone that were not biopsied."""
    own = [name for name in table.columns if name not in {*STANDARD_COLUMNS, "raw_label", _BIOPSED}]
    if found := missing_only_without(table, ["age", "sex", "site", *own], _BIOPSED):
        record_finding(
            f"{len(found)} columns of {INFO.title} lack values only of lesions that were not biopsied, and every "
            f"malignant lesion was: a missing value says that a lesion is benign. Networks with backbone.metadata "
            f"(age, sex, site) and stacked ensembles with these stack_columns learn this",
            [f"{name}: {count:,} of {len(table):,} rows" for name, count in found.items()],
            "warning",
        )
