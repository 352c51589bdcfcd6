from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.ph2 import INFO, read_ph2
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_image, read_mask

NAMES = [
    *("Image Name", "Histological Diagnosis", "Common Nevus", "Atypical Nevus", "Melanoma", "Asymmetry\n(0/1/2)"),
    *("Pigment Network\n(AT/T)", "Dots/Globules\n(A/AT/T)", "Streaks\n(A/P)", "Regression Areas\n(A/P)"),
    *("Blue-Whitish Veil\n(A/P)", "White", "Red", "Light-Brown", "Dark-Brown", "Blue-Gray", "Black"),
]
CASES = [
    ["IMD003", None, "X", None, None, 0, "T", "A", "A", "A", "A", None, None, None, "X", None, None],
    ["IMD155", "Melanoma", None, None, "X", 2, "AT", "AT", "P", "A", "P", None, None, "X", "X", None, "X"],
    ["IMD364", None, None, "X ", None, 1, "AT", "A", "A", "A", "A", None, None, "X", None, None, None],
]
TEXT = """\
|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network | Dots/Globules | Streaks | ...
||   IMD003  ||                ||         0          ||     0     |        T        | A | A | A | A ||  4         ||
||   IMD155  || Melanoma       ||         2          ||     2     |        AT       | AT | P | A | P ||  3  4  6   ||
||   IMD364  ||                ||         1          ||     1     |        AT       | A | A | A | A ||  3         ||

Legend:
Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.
Colors: 1 - White; 2 - Red; 3 - Light-Brown; 4 - Dark-Brown; 5 - Blue-Gray; 6 - Black
"""


def _workbook(path: Path, cases: list[list[object]], header_row: int = 13) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.cell(2, 6, "Legends")
    sheet.cell(12, 3, "Clinical Diagnosis")
    for offset, values in enumerate([NAMES, *cases]):
        for column, value in enumerate(values, start=1):
            sheet.cell(header_row + offset, column, value)
    book.save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for case in CASES:
        folder = tmp_path / "PH2Dataset" / "PH2 Dataset images" / str(case[0])
        for sub, name in (("Dermoscopic_Image", ""), ("lesion", "_lesion"), ("roi", "_R1_Label4")):
            path = folder / f"{case[0]}_{sub}" / f"{case[0]}{name}.bmp"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path)
    return tmp_path


@pytest.fixture(scope="module")
def real_table(real_ph2: Path) -> pd.DataFrame:
    return read_ph2(str(real_ph2))


def test_the_real_set_has_the_published_counts(real_table: pd.DataFrame) -> None:
    assert real_table["label"].value_counts().to_dict() == INFO.published_counts
    assert real_table["image_id"].is_unique
    assert real_table["image_path"].notna().all()
    assert real_table["mask_path"].notna().all()
    assert set(real_table["asymmetry"]) == {0, 1, 2}


def test_real_images_and_masks_are_those_of_their_row(real_table: pd.DataFrame) -> None:
    for row in real_table.iloc[::60].itertuples():
        assert row.image_path.endswith(f"{row.image_id}_Dermoscopic_Image/{row.image_id}.bmp")
        assert row.mask_path.endswith(f"{row.image_id}_lesion/{row.image_id}_lesion.bmp")
        image = read_image(row.image_path)
        assert 0 < (read_mask(row.mask_path, image.shape[:2]) == 255).mean() < 1


def test_unpacked_real_files_give_the_same_table(real_ph2: Path, real_table: pd.DataFrame, tmp_path: Path) -> None:
    with zipfile.ZipFile(real_ph2 / "PH2Dataset.zip") as opened:
        names = [name for name in opened.namelist() if "IMD003" in name or name.endswith("xlsx")]
        opened.extractall(tmp_path, names)
    unpacked = read_ph2(str(tmp_path))
    paths = ["image_path", "mask_path"]
    pd.testing.assert_frame_equal(unpacked.drop(columns=paths), real_table.drop(columns=paths))
    assert unpacked["image_path"].dropna().tolist() == [
        str(tmp_path / "PH2Dataset/PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp")
    ]


def test_workbook_and_text_variant_say_the_same(images: Path) -> None:
    _workbook(images / "PH2_dataset.xlsx", CASES)
    from_workbook = read_ph2(str(images))
    (images / "PH2_dataset.xlsx").unlink()
    (images / "PH2_dataset.txt").write_text(TEXT)
    from_text = read_ph2(str(images))
    for table in (from_workbook, from_text):
        assert table["label"].tolist() == ["common_nevus", "mel", "atypical_nevus"]
        assert table["colours"].tolist() == ["dark-brown", "light-brown dark-brown black", "light-brown"]
        assert table["asymmetry"].tolist() == [0, 2, 1]
        assert table["blue_whitish_veil"].tolist() == ["A", "P", "A"]
        assert table["leaks_histology"].fillna("").tolist() == ["", "Melanoma", ""]
        assert table["image_path"].notna().all()
        assert all(path.endswith("_lesion.bmp") for path in table["mask_path"])


def test_a_header_in_another_row_is_found(images: Path) -> None:
    _workbook(images / "PH2_dataset.xlsx", CASES, header_row=15)
    assert len(read_ph2(str(images))) == 3


def test_a_row_with_two_marks_has_no_known_label(images: Path) -> None:
    _workbook(images / "PH2_dataset.xlsx", [CASES[0], [*CASES[1][:3], "X", *CASES[1][4:]]])
    table = read_ph2(str(images))
    assert table["label"].tolist() == ["common_nevus", None]
    assert table["raw_label"].tolist()[1] == "not exactly one mark"


def test_an_unknown_clinical_code_has_no_known_label(images: Path) -> None:
    (images / "PH2_dataset.txt").write_text(TEXT.replace("||         1          ||", "|| 7 ||"))
    assert read_ph2(str(images))["raw_label"].tolist() == ["Common Nevus", "Melanoma", "7"]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("PH2_dataset.xlsx", b"no workbook", "cannot be read"),
        ("PH2_dataset.txt", b"|| Name || only a header ||\n", "found none"),
        ("PH2_dataset.txt", b"|| IMD003 || || 0 || 0 | T ||  4 ||\n", "expected rows"),
        ("labels.csv", b"x", "expected PH2_dataset.xlsx or PH2_dataset.txt"),
    ],
)
def test_files_in_another_format_are_refused(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=part):
        read_ph2(str(tmp_path))


def test_a_damaged_workbook_is_refused(images: Path) -> None:
    path = images / "PH2_dataset.xlsx"
    _workbook(path, CASES)
    content = bytearray(path.read_bytes())
    name = b"xl/workbook.xml"
    begin = content.index(name) + len(name)
    content[begin : begin + 40] = b"\xff" * 40  # in the middle of compressed bytes
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"the workbook of PH2 at .*, but it cannot be read: .*; download it again"):
        read_ph2(str(images))


def test_a_workbook_without_its_header_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"name": ["IMD003"]}).to_excel(tmp_path / "PH2_dataset.xlsx", index=False)
    with pytest.raises(DataError, match="starts with 'Image Name'"):
        read_ph2(str(tmp_path))
