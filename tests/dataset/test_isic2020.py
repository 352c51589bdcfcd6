from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.isic2020 import COUNTS, read_isic2020
from lesion_exp.errors import ConfigError, DataError

TRUTH = """\
image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
ISIC_2637011,IP_7279968,male,45.0,head/neck,unknown,benign,0
ISIC_0015719,IP_3075186,female,45.0,upper extremity,melanoma,malignant,1
ISIC_0052212,IP_2842074,,50.0,,nevus,benign,0
ISIC_0068279,IP_6890425,female,,head/neck,lentigo NOS,benign,0
"""
DUPLICATES = "image_name_1,image_name_2\nISIC_2637011,ISIC_0068279\nISIC_9999999,ISIC_0052212\n"


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    (tmp_path / "ISIC_2020_Training_GroundTruth.csv").write_text(TRUTH)
    (tmp_path / "ISIC_2020_Training_Duplicates.csv").write_text(DUPLICATES)
    (tmp_path / "train").mkdir()
    for line in TRUTH.splitlines()[1:]:
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / f"{line.partition(',')[0]}.jpg")
    return tmp_path


def test_the_second_image_of_a_listed_pair_goes_and_only_where_the_first_is_there(replica: Path) -> None:
    assert read_isic2020(str(replica))["image_id"].tolist() == ["ISIC_2637011", "ISIC_0015719", "ISIC_0052212"]
    assert len(read_isic2020(str(replica), drop_listed_duplicates=False)) == 4


def test_labels_by_target_and_by_diagnosis(replica: Path) -> None:
    by_target = read_isic2020(str(replica), drop_listed_duplicates=False)
    by_diagnosis = read_isic2020(str(replica), label="diagnosis", drop_listed_duplicates=False)
    assert by_target["label"].tolist() == ["benign", "malignant", "benign", "benign"]
    assert by_diagnosis["label"].tolist() == ["unk", "mel", "nv", "bkl"]
    assert by_target["patient_id"].tolist()[0] == "IP_7279968"
    assert by_target["sex"].tolist() == ["male", "female", "unknown", "female"]
    assert by_target["image_path"].notna().all()


def test_leaking_columns_are_marked(replica: Path) -> None:
    table = read_isic2020(str(replica))
    assert not {"diagnosis", "benign_malignant", "target"} & set(table.columns)
    assert {"leaks_diagnosis", "leaks_benign_malignant", "leaks_target"} <= set(table.columns)


def test_a_blank_target_does_not_spoil_the_others(replica: Path) -> None:
    (replica / "ISIC_2020_Training_GroundTruth.csv").write_text(TRUTH.replace("malignant,1", "malignant,"))
    assert read_isic2020(str(replica))["label"].tolist() == ["benign", None, "benign"]


def test_the_second_version_with_lesion_ids_goes_first(replica: Path) -> None:
    lines = [line.split(",") for line in TRUTH.splitlines()]
    text = "\n".join(
        ",".join([*cells[:2], "lesion_id" if index == 0 else f"IL_{index}", *cells[2:]])
        for index, cells in enumerate(lines)
    )
    (replica / "ISIC_2020_Training_GroundTruth_v2.csv").write_text(text)
    assert read_isic2020(str(replica))["lesion_id"].tolist() == ["IL_1", "IL_2", "IL_3"]


def test_a_missing_list_of_duplicates_and_a_wrong_label_key(replica: Path) -> None:
    (replica / "ISIC_2020_Training_Duplicates.csv").unlink()
    with pytest.raises(DataError, match="Duplicates"):
        read_isic2020(str(replica))
    with pytest.raises(ConfigError, match="did you mean 'diagnosis'"):
        read_isic2020(str(replica), label="diagnoses")  # type: ignore[arg-type]


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(COUNTS["target", False].values()) == sum(COUNTS["diagnosis", False].values()) == 33_126
