"""Reads PH2: 200 dermoscopic images of common nevi, atypical nevi and melanomas, with lesion masks."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.image_files import locate_images, locate_masks
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, mark_leaks, standardize
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_bytes
from lesion_exp.text_table import read_text

CODES: Final = {"Common Nevus": "common_nevus", "Atypical Nevus": "atypical_nevus", "Melanoma": "mel"}
CLINICAL: Final = {"0": "Common Nevus", "1": "Atypical Nevus", "2": "Melanoma"}
"""Codes of the text file -> columns of the workbook."""
CRITERIA: Final = (
    "asymmetry",
    "pigment_network",
    "dots_globules",
    "streaks",
    "regression_areas",
    "blue_whitish_veil",
)
COLOURS: Final = {"1": "white", "2": "red", "3": "light-brown", "4": "dark-brown", "5": "blue-gray", "6": "black"}
NOT_ONE_MARK: Final = "not exactly one mark"

INFO: Final = DatasetInfo(
    name="ph2",
    title="PH2",
    view="dermoscopic",
    citation=(
        "Mendonca, Ferreira, Marques, Marcal and Rozeira, PH2: a dermoscopic image database for research and "
        "benchmarking, EMBC 2013"
    ),
    licence="research and education",
    where="https://www.fc.up.pt/addi/ph2%20database.html: PH2Dataset, unpacked or as a zip",
    published_counts={"common_nevus": 80, "atypical_nevus": 80, "mel": 40},
)


def read_ph2(root: str, ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of PH2, with labels from `PH2_dataset.xlsx`, or from `PH2_dataset.txt` if that is absent.

    Own columns: the dermoscopic criteria as marked by the experts (`asymmetry` 0-2; A absent, P present, T typical, AT
    atypical), `colours` (names separated by blanks) and `leaks_histology`. Lesions and patients have no ids.

    Raises:
        DataError: a file is missing or is not in the published format.
    """
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require("PH2_dataset.xlsx", "PH2_dataset.txt")
    where = files.shorten(locator)
    rows = _read_xlsx(locator, where) if locator.lower().endswith("xlsx") else _read_txt(locator, where)
    frame = mark_leaks(map_labels(rows, "diagnosis", CODES).drop(columns="diagnosis"), "histology")
    frame["mask_path"] = locate_masks(frame["image_id"], files, "_lesion")
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _read_xlsx(locator: str, where: str) -> pd.DataFrame:
    try:
        sheet = pd.read_excel(io.BytesIO(read_bytes(locator)), header=None, dtype=object)
    except DataError:
        raise
    except Exception as error:  # pandas and openpyxl raise whatever a broken workbook provokes
        raise DataError(
            f"expected the workbook of PH2 at {where}, but it cannot be read: {error}; download it again"
        ) from error
    header = [index for index, name in enumerate(sheet[0]) if str(name).strip().lower() == "image name"]
    if not header or sheet.shape[1] < 17:
        raise DataError(
            f"expected a row that starts with 'Image Name' and has 17 columns in {where} (row 13 as published), got "
            f"{sheet.shape[0]} rows of {sheet.shape[1]} columns without it; download the file again"
        )
    names = [str(name).partition("\n")[0].strip() for name in sheet.iloc[header[0]]]
    if names[2:5] != list(CODES):
        raise DataError(
            f"expected the columns {', '.join(CODES)} in {where}, got {', '.join(names)}; download the file again"
        )
    body = sheet.iloc[header[0] + 1 :]
    body = body[body[0].notna()]
    marks = body.map(lambda cell: str(cell).strip().lower() == "x")
    colours = [name.lower() for name in names[11:17]]
    frame = pd.DataFrame(
        {
            "image_id": body[0].astype(str).str.strip().str.upper(),
            "histology": body[1],
            "diagnosis": [_only(names[2:5], list(row)) for row in marks[[2, 3, 4]].itertuples(index=False)],
            "colours": [_joined(colours, list(row)) for row in marks[range(11, 17)].itertuples(index=False)],
        }
    )
    for position, criterion in enumerate(CRITERIA, start=5):
        frame[criterion] = body[position].astype(str).str.strip()
    return _with_numbers(frame)


def _read_txt(locator: str, where: str) -> pd.DataFrame:
    """Reads rows such as `|| IMD003 || histology || 0 || 0 | T | A | A | A | A || 3 4 ||`; other lines are skipped."""
    rows: list[dict[str, str]] = []
    for line in read_text(locator).splitlines():
        if not re.match(r"\s*\|\|\s*IMD\d+", line, flags=re.IGNORECASE):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("||")]
        criteria = [cell.strip() for cell in cells[3].split("|")] if len(cells) == 5 else []
        if len(criteria) != len(CRITERIA):
            raise DataError(
                f"expected rows '|| IMD003 || histology || 0 || asymmetry | network | dots | streaks | regression | "
                f"veil || colours ||' in {where}, got {line.strip()!r}; download the file again"
            )
        image_id, histology, clinical, _, colours = cells
        row = {"image_id": image_id.upper(), "histology": histology, "diagnosis": CLINICAL.get(clinical, clinical)}
        row |= {"colours": " ".join(COLOURS.get(code, code) for code in re.findall(r"\d+", colours))}
        rows.append(row | dict(zip(CRITERIA, criteria, strict=True)))
    if not rows:
        raise DataError(f"expected rows that start with '|| IMD...' in {where}, found none; download the file again")
    return _with_numbers(pd.DataFrame(rows))


def _with_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(asymmetry=pd.to_numeric(frame["asymmetry"], errors="coerce"))


def _only(names: list[str], marked: list[bool]) -> str:
    chosen = [name for name, mark in zip(names, marked, strict=True) if mark]
    return chosen[0] if len(chosen) == 1 else NOT_ONE_MARK


def _joined(names: list[str], marked: list[bool]) -> str:
    return " ".join(name for name, mark in zip(names, marked, strict=True) if mark)
