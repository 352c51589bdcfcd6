from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp import taxonomy
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.dataset.milk10k import CLASSES, CODES, INFO, read_milk10k
from lesion_exp.errors import DataError

LABELS = {"IL_0000652": "BCC", "IL_0003176": "NV", "IL_0004688": "SCCKA"}
HEADER = (
    "lesion_id,image_type,isic_id,attribution,copyright_license,image_manipulation,age_approx,sex,skin_tone_class,site,"
    "MONET_ulceration_crust,MONET_hair\n"
)


def _truth(labels: dict[str, str]) -> str:
    rows = [
        ",".join([lesion, *("1.0" if name == label else "0.0" for name in CLASSES)]) for lesion, label in labels.items()
    ]
    return "\n".join([f"lesion_id,{','.join(CLASSES)}", *rows, ""])


def _metadata() -> list[str]:
    rows = []
    for number, lesion in enumerate(LABELS):
        for kind, name in (("clinical: close-up", 2 * number), ("dermoscopic", 2 * number + 1)):
            age, tone = ("", "") if number == 2 else (f"{50 + number}.0", f"{5 - 2 * number}")
            rows.append(f"{lesion},{kind},ISIC_{name:07d},MILK,CC-BY-NC,altered,{age},male,{tone},trunk,0.1,0.{name}\n")
    return rows


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    root = tmp_path / "milk"
    for number, lesion in enumerate(LABELS):
        folder = root / "MILK10k_Training_Input" / lesion
        folder.mkdir(parents=True)
        for name in (2 * number, 2 * number + 1):
            Image.new("RGB", (8, 8)).save(folder / f"ISIC_{name:07d}.jpg")
    (root / "MILK10k_Training_GroundTruth.csv").write_text(_truth(LABELS))
    (root / "MILK10k_Training_Metadata.csv").write_text(HEADER + "".join(_metadata()))
    return root


def test_a_row_a_lesion_with_both_photographs(replica: Path) -> None:
    table = read_milk10k(str(replica))
    assert table["label"].tolist() == ["bcc", "nv", "sccka"]
    assert table["lesion_id"].tolist() == list(LABELS)
    assert table["image_id"].tolist() == ["ISIC_0000001", "ISIC_0000003", "ISIC_0000005"]
    assert [Path(path).stem for path in table["image_path"]] == table["image_id"].tolist()
    assert [Path(path).stem for path in table["clinical_path"]] == ["ISIC_0000000", "ISIC_0000002", "ISIC_0000004"]
    assert table["age"].fillna(-1).tolist() == [50, 51, -1]
    assert table["skin_tone"].fillna(-1).tolist() == [1, 3, -1]  # classes 5 (light), 3, unknown
    assert table["site"].eq("trunk").all()
    assert table["MONET_hair"].tolist() == [0.1, 0.3, 0.5]  # of the dermoscopic photograph


def test_zipped(replica: Path) -> None:
    unpacked = read_milk10k(str(replica))
    shutil.make_archive(str(replica / "MILK10k_Training_Input"), "zip", replica / "MILK10k_Training_Input")
    shutil.rmtree(replica / "MILK10k_Training_Input")
    zipped = read_milk10k(str(replica))
    paths = ["image_path", "clinical_path"]
    assert zipped[paths].apply(lambda column: column.str.contains("Input.zip!/IL_")).all(axis=None)
    assert zipped.drop(columns=paths).equals(unpacked.drop(columns=paths))


def test_missing_photographs(replica: Path) -> None:
    rows = _metadata()
    (replica / "MILK10k_Training_Metadata.csv").write_text(HEADER + "".join(rows[:2] + rows[2:3] + rows[5:]))
    table = read_milk10k(str(replica))
    assert table["clinical_path"].isna().tolist() == [False, False, True]
    flow = Flow()
    with pytest.raises(DataError, match=r"(?s)none is left of these.*nv: 1 images.*dataset\.filter"):
        load_table(lambda: table, TableOptions(on_bad_image="skip"), Flow())
    load_table(lambda: table, TableOptions(filter="label != 'nv'", on_bad_image="skip"), flow)
    assert flow.left_out == [("IL_0003176", "no image file")]  # it has no dermoscopic one


def test_two_photographs_of_a_kind_are_refused(replica: Path) -> None:
    metadata = HEADER + "".join(_metadata()) + _metadata()[1].replace("ISIC_0000001", "ISIC_0000009")
    (replica / "MILK10k_Training_Metadata.csv").write_text(metadata)
    with pytest.raises(
        DataError, match=r"one photograph 'dermoscopic' for each lesion.*1 lesions have more:\n  - IL_0000652"
    ):
        read_milk10k(str(replica))


def test_a_row_without_a_one_is_refused(replica: Path) -> None:
    (replica / "MILK10k_Training_GroundTruth.csv").write_text(_truth(LABELS | {"IL_0003176": "none"}))
    with pytest.raises(DataError, match="expected one 1 and otherwise 0"):
        read_milk10k(str(replica))


def test_every_class_is_in_the_taxonomy() -> None:
    assert set(CODES.values()) == set(INFO.published_counts) <= set(taxonomy.codes())
    assert sum(INFO.published_counts.values()) == 5240
