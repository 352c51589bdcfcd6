from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp import taxonomy
from lesion_exp.dataset.derm7pt import FINE_CODES, INFO, read_derm7pt
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.errors import ConfigError, DataError

HEADER = (
    "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,regression_structures,dots_and_globules,"
    "blue_whitish_veil,vascular_structures,level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,"
    "case_id,notes\n"
)
DIAGNOSES = ("basal cell carcinoma", "clark nevus", "melanoma (in situ)", "dermatofibroma", "seborrheic keratosis")


def _row(number: int, diagnosis: str) -> str:
    return (
        f"{number},{diagnosis},1,absent,absent,absent,absent,irregular,absent,absent,medium,nodular,abdomen,female,"
        f"excision,NEL/NEL{number:03d}.JPG,NEL/Nel{number + 100:03d}.jpg,A{number},\n"
    )


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    meta, images = tmp_path / "release_v0/meta", tmp_path / "release_v0/images/NEL"
    meta.mkdir(parents=True)
    images.mkdir(parents=True)
    (meta / "meta.csv").write_text(HEADER + "".join(_row(number, name) for number, name in enumerate(DIAGNOSES, 1)))
    for name, rows in (("train", (0, 3, 4)), ("valid", (1,)), ("test", (2,))):
        (meta / f"{name}_indexes.csv").write_text("indexes\n" + "".join(f"{row}\n" for row in rows))
    for number in range(1, 6):
        Image.new("RGB", (8, 8)).save(images / f"Nel{number:03d}.jpg")
        Image.new("RGB", (8, 8)).save(images / f"NEL{number + 100:03d}.jpg")
    return tmp_path


def test_both_photographs_labels_and_parts(replica: Path) -> None:
    table = read_derm7pt(str(replica))
    assert table["label"].tolist() == ["bcc", "nv", "mel", "misc", "sk"]
    assert table["official_split"].tolist() == ["train", "val", "test", "train", "train"]
    assert [Path(path).name for path in table["image_path"]] == [f"NEL{number}.jpg" for number in range(101, 106)]
    assert [Path(path).name for path in table["clinical_path"]] == [f"Nel{number:03d}.jpg" for number in range(1, 6)]
    assert table["image_id"].tolist()[0] == "derm7pt_0001"
    assert table["lesion_id"].is_unique
    assert table["site"].eq("abdomen").all()
    assert table["sex"].eq("female").all()
    assert table["age"].isna().all()
    assert table["leaks_management"].eq("excision").all()
    assert not {"management", "notes", "diagnosis"} & set(table.columns)


def test_fine_diagnoses(replica: Path) -> None:
    assert read_derm7pt(str(replica), "fine")["label"].tolist() == ["bcc", "clark_nevus", "mel_in_situ", "df", "sk"]
    with pytest.raises(ConfigError, match="one of five, fine, got 'seven'"):
        read_derm7pt(str(replica), "seven")  # type: ignore[arg-type]


def test_every_fine_code_is_in_the_taxonomy() -> None:
    assert set(FINE_CODES.values()) <= set(taxonomy.codes())
    assert set(INFO.published_counts) <= set(taxonomy.codes())
    assert sum(INFO.published_counts.values()) == 1011


def test_zipped(replica: Path) -> None:
    unpacked = read_derm7pt(str(replica))
    shutil.make_archive(str(replica / "release_v0"), "zip", replica, "release_v0")
    shutil.rmtree(replica / "release_v0")
    zipped = read_derm7pt(str(replica))
    paths = ["image_path", "clinical_path"]
    assert zipped[paths].apply(lambda column: column.str.contains("release_v0.zip!/")).all(axis=None)
    assert zipped.drop(columns=paths).equals(unpacked.drop(columns=paths))


def test_a_missing_photograph(replica: Path) -> None:
    images = replica / "release_v0/images/NEL"
    (images / "NEL102.jpg").unlink()
    (images / "Nel003.jpg").unlink()
    flow = Flow()
    kept = load_table(lambda: read_derm7pt(str(replica)), TableOptions("label != 'nv'", on_bad_image="skip"), flow)
    assert flow.left_out == [("derm7pt_0002", "no image file")]
    assert kept["clinical_path"].isna().tolist() == [False, True, False, False]


def test_index_files_of_another_release_are_refused(replica: Path) -> None:
    (replica / "release_v0/meta/valid_indexes.csv").write_text("indexes\n1\n77\n")
    with pytest.raises(DataError, match=r"row numbers from 0 to 4 in .*valid_indexes\.csv, got\n  - 77"):
        read_derm7pt(str(replica))
    (replica / "release_v0/meta/valid_indexes.csv").unlink()
    with pytest.raises(DataError, match=r"valid_indexes\.csv of derm7pt"):
        read_derm7pt(str(replica))


def test_an_unknown_diagnosis_is_reported(replica: Path) -> None:
    meta = replica / "release_v0/meta/meta.csv"
    meta.write_text(meta.read_text().replace("clark nevus", "clerk nevus"))
    with pytest.raises(DataError, match="'clerk nevus'"):
        load_table(lambda: read_derm7pt(str(replica)), TableOptions(), Flow())
