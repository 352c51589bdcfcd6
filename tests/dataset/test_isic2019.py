from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.isic2019 import INFO, read_isic2019
from lesion_exp.errors import DataError

TRUTH = """\
image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0000002_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0024329,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
ISIC_0024468,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0
"""
METADATA = """\
image,age_approx,anatom_site_general,lesion_id,sex
ISIC_0000000,55.0,anterior torso,,female
ISIC_0000002_downsampled,,,MSK4_0011169,female
ISIC_0024329,75.0,lower extremity,HAM_0002954,
ISIC_0024468,75.0,upper extremity,HAM_0005618,male
"""
TEST_TRUTH = """\
image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK,score_weight,validation_weight
ISIC_0034321,0,0,0,0,0,0,0,0,1,1,0
ISIC_0034322,0,1,0,0,0,0,0,0,0,0,1
"""
TEST_METADATA = "image,age_approx,anatom_site_general,sex\nISIC_0034321,55,anterior torso,male\nISIC_0034322,,,male\n"


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(TRUTH)
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(METADATA)
    folder = tmp_path / "ISIC_2019_Training_Input"
    folder.mkdir()
    for line in TRUTH.splitlines()[1:]:
        Image.new("RGB", (8, 8)).save(folder / f"{line.partition(',')[0]}.jpg")
    return tmp_path


def test_labels_metadata_and_missing_values(replica: Path) -> None:
    table = read_isic2019(str(replica))
    assert table["label"].tolist() == ["nv", "mel", "scc", "ak"]
    assert table["lesion_id"].tolist() == [None, "MSK4_0011169", "HAM_0002954", "HAM_0005618"]
    assert table["age"].fillna(-1).tolist() == [55, -1, 75, 75]
    assert table["site"].tolist() == ["anterior torso", "unknown", "lower extremity", "upper extremity"]
    assert table["sex"].tolist() == ["female", "female", "unknown", "male"]
    assert table["image_path"].notna().all()


def test_downsampled_images_are_found_under_their_bare_name_too(replica: Path) -> None:
    folder = replica / "ISIC_2019_Training_Input"
    (folder / "ISIC_0000002_downsampled.jpg").rename(folder / "ISIC_0000002.jpg")
    (folder / "ISIC_0000000.jpg").rename(folder / "ISIC_0000000_downsampled.jpg")
    table = read_isic2019(str(replica))
    assert table["image_path"][1].endswith("ISIC_0000002.jpg")
    assert table["image_path"][0].endswith("ISIC_0000000_downsampled.jpg")
    assert table["image_id"][1] == "ISIC_0000002_downsampled"


def test_the_test_part_keeps_what_the_scorer_counts(replica: Path) -> None:
    (replica / "ISIC_2019_Test_GroundTruth.csv").write_text(TEST_TRUTH)
    (replica / "ISIC_2019_Test_Metadata.csv").write_text(TEST_METADATA)
    table = read_isic2019(str(replica), parts=["train", "test"])
    assert table["official_split"].tolist() == ["train"] * 4 + ["test"]
    assert table["label"].tolist()[-1] == "unk"
    assert table["lesion_id"].tolist()[-1] is None
    assert table["image_path"].isna().tolist() == [False] * 4 + [True]


def test_a_doubled_metadata_row_does_not_double_an_image(replica: Path) -> None:
    (replica / "ISIC_2019_Training_Metadata.csv").write_text(METADATA + METADATA.splitlines()[1] + "\n")
    assert len(read_isic2019(str(replica))) == 4


def test_missing_metadata_or_columns_are_named(replica: Path) -> None:
    (replica / "ISIC_2019_Training_Metadata.csv").write_text(METADATA.replace("anatom_site_general", "site"))
    with pytest.raises(DataError, match="columns anatom_site_general in ISIC_2019_Training_Metadata"):
        read_isic2019(str(replica))
    (replica / "ISIC_2019_Training_Metadata.csv").unlink()
    with pytest.raises(DataError, match=r"expected ISIC_2019_Training_Metadata\.csv"):
        read_isic2019(str(replica))


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(INFO.published_counts.values()) == 25_331
