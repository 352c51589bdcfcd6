from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.isic2018 import INFO, read_isic2018
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_image

CLASSES = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
TRAIN = {"ISIC_0024306": "NV", "ISIC_0024307": "MEL", "ISIC_0024308": "AKIEC"}
VAL = {"ISIC_0034321": "VASC"}
TEST = {"ISIC_0034524": "DF", "ISIC_0035068": "BKL"}


def _ground_truth(truth: dict[str, str]) -> str:
    rows = [
        f"{image}," + ",".join("1.0" if name == label else "0.0" for name in CLASSES) for image, label in truth.items()
    ]
    return "\n".join(["image," + ",".join(CLASSES), *rows]) + "\n"


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    picture = tmp_path / "picture.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    for part, truth in (("Training", TRAIN), ("Validation", VAL), ("Test", TEST)):
        stem = f"ISIC2018_Task3_{part}"
        with zipfile.ZipFile(tmp_path / f"{stem}_GroundTruth.zip", "w") as archive:
            archive.writestr(f"{stem}_GroundTruth/{stem}_GroundTruth.csv", _ground_truth(truth))
        with zipfile.ZipFile(tmp_path / f"{stem}_Input.zip", "w") as archive:
            archive.writestr(f"{stem}_Input/ATTRIBUTION.txt", "x")
            for image in truth:
                archive.write(picture, f"{stem}_Input/{image}.jpg")
    picture.unlink()
    pd.DataFrame(
        {
            "image": list(TRAIN),
            "lesion_id": ["HAM_1", "HAM_1", "HAM_2"],
            "diagnosis_confirm_type": ["follow up", "histopathology", "histopathology"],
        }
    ).to_csv(tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv", index=False)
    return tmp_path


def test_the_training_part_from_the_challenges_zips(replica: Path) -> None:
    table = read_isic2018(str(replica))
    assert dict(zip(table["image_id"], table["label"], strict=True)) == {
        key: name.lower() for key, name in TRAIN.items()
    }
    assert table["lesion_id"].tolist() == ["HAM_1", "HAM_1", "HAM_2"]
    assert "diagnosis_confirm_type" not in table
    assert table["leaks_diagnosis_confirm_type"].tolist()[0] == "follow up"
    assert read_image(table["image_path"][0]).shape == (8, 8, 3)


def test_all_parts_without_the_image_that_the_scorer_ignores(replica: Path) -> None:
    table = read_isic2018(str(replica), parts=["train", "val", "test"])
    assert table["official_split"].tolist() == ["train"] * 3 + ["val", "test"]
    assert "ISIC_0035068" not in set(table["image_id"])
    assert table["lesion_id"].tolist()[3:] == [None, None]
    assert table["image_path"].notna().all()


def test_lesion_groups_are_required_unless_waived(replica: Path) -> None:
    (replica / "ISIC2018_Task3_Training_LesionGroupings.csv").unlink()
    with pytest.raises(DataError, match="LesionGroupings"):
        read_isic2018(str(replica))
    assert read_isic2018(str(replica), need_lesion_groups=False)["lesion_id"].isna().all()
    assert len(read_isic2018(str(replica), parts=["val"])) == 1


def test_a_row_that_is_not_one_hot_is_refused(replica: Path) -> None:
    (replica / "ISIC2018_Task3_Training_GroundTruth.zip").unlink()
    (replica / "ISIC2018_Task3_Training_GroundTruth.csv").write_text(
        _ground_truth(TRAIN).replace("0.0,1.0,0.0", "0.0,1.0,1.0")
    )
    with pytest.raises(DataError, match="one 1 and otherwise 0"):
        read_isic2018(str(replica))


def test_the_published_counts_are_those_of_the_training_part() -> None:
    assert sum(INFO.published_counts.values()) == 10_015
