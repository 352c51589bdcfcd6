from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.ddi import INFO, read_ddi
from lesion_exp.dataset.loading import Flow, TableOptions, load_table, to_target
from lesion_exp.errors import DataError

TABLE = """\
,DDI_ID,DDI_file,skin_tone,malignant,disease
0,1,000001.png,56,True,melanoma-in-situ
1,2,000002.png,12,True,melanoma-in-situ
2,3,000003.png,34,False,mycosis-fungoides
3,4,000004.png,,False,squamous-cell-carcinoma-in-situ
"""


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    folder = tmp_path / "ddidiversedermatologyimages"
    folder.mkdir()
    (folder / "ddi_metadata.csv").write_text(TABLE)
    for number in range(1, 5):
        Image.new("RGB", (8, 8)).save(folder / f"00000{number}.png")
    return tmp_path


def test_the_table(replica: Path) -> None:
    table = read_ddi(str(replica))
    assert table["label"].tolist() == ["malignant", "malignant", "benign", "benign"]
    assert table["image_id"].tolist() == ["000001", "000002", "000003", "000004"]
    assert table["skin_tone"].fillna(-1).tolist() == [56, 12, 34, -1]
    assert table["leaks_disease"][0] == "melanoma-in-situ"
    assert not {"disease", "malignant", "Unnamed: 0"} & set(table.columns)
    assert table["image_path"].notna().all()
    assert to_target(table, "malignant")["label"].tolist() == table["label"].tolist()


def test_zipped_as_downloaded(replica: Path) -> None:
    unpacked = read_ddi(str(replica))
    folder = replica / "ddidiversedermatologyimages"
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    zipped = read_ddi(str(replica))
    assert zipped["image_path"].str.contains("images.zip!/0").all()
    assert zipped.drop(columns="image_path").equals(unpacked.drop(columns="image_path"))


def test_faults_are_reported(replica: Path) -> None:
    folder = replica / "ddidiversedermatologyimages"
    (folder / "000002.png").unlink()
    (folder / "ddi_metadata.csv").write_text(TABLE.replace("34,False", "34,perhaps"))
    flow = Flow()
    load_table(lambda: read_ddi(str(replica)), TableOptions(on_bad_image="skip"), flow)
    assert flow.left_out == [("000002", "no image file"), ("000003", "unknown label")]


def test_a_missing_table_or_column(replica: Path) -> None:
    path = replica / "ddidiversedermatologyimages/ddi_metadata.csv"
    path.write_text(TABLE.replace("malignant,", "malign,"))
    with pytest.raises(DataError, match="columns malignant in"):
        read_ddi(str(replica))
    path.unlink()
    with pytest.raises(DataError, match=r"expected ddi_metadata\.csv of DDI"):
        read_ddi(str(replica))


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(INFO.published_counts.values()) == 656
