from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp import taxonomy
from lesion_exp.dataset.fitzpatrick17k import INFO, NINE, THREE, read_fitzpatrick17k
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.errors import ConfigError, DataError

HASHES = ("5e82a45bc5d78bd24ae9202d194423f8", "fa2911a9b13b6f8af79cb700937cc14f", "12345678901234567890123456789012")
TABLE = f"""\
md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url,url_alphanum
{HASHES[0]},3,3,drug induced pigmentary changes,inflammatory,non-neoplastic,,https://a.example/1.jpg,a1.jpg
{HASHES[1]},-1,-1,malignant melanoma,malignant melanoma,malignant,1 Diagnostic,https://a.example/2.jpg,a2.jpg
{HASHES[2]},6,5,dermatofibroma,benign dermal,benign,,https://a.example/3.jpg,a3.jpg
"""


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    (tmp_path / "fitzpatrick17k.csv").write_text(TABLE)
    (tmp_path / "images").mkdir()
    for name in HASHES:
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def test_labels_skin_tones_and_images(replica: Path) -> None:
    table = read_fitzpatrick17k(str(replica))
    assert table["label"].tolist() == ["non_neoplastic", "malignant", "benign"]
    assert table["image_id"].tolist() == list(HASHES)  # the one of digits is no number
    assert table["image_path"].notna().all()
    assert table["skin_tone"].fillna(0).tolist() == [3, 0, 6]
    assert table["fitzpatrick_centaur"].fillna(0).tolist() == [3, 0, 5]
    assert table["qc"].fillna("").tolist() == ["", "1 Diagnostic", ""]


def test_nine_partitions(replica: Path) -> None:
    table = read_fitzpatrick17k(str(replica), "nine")
    assert table["label"].tolist() == ["inflammatory", "malignant_melanoma", "benign_dermal"]
    with pytest.raises(ConfigError, match="one of three, nine, got 'ten'"):
        read_fitzpatrick17k(str(replica), "ten")  # type: ignore[arg-type]


@pytest.mark.parametrize("partition", ["three", "nine"])
def test_what_tells_the_label_is_marked(replica: Path, partition: str) -> None:
    table = read_fitzpatrick17k(str(replica), partition)  # type: ignore[arg-type]
    own = [column for column in table.columns if not column.startswith("leaks_")]
    assert not [column for column in own if "partition" in column or column in {"condition", "url"}]
    assert table["leaks_condition"][2] == "dermatofibroma"


def test_zipped(replica: Path) -> None:
    shutil.make_archive(str(replica / "images"), "zip", replica / "images")
    shutil.rmtree(replica / "images")
    assert read_fitzpatrick17k(str(replica))["image_path"].str.contains("images.zip!/").all()


def test_images_that_could_not_be_downloaded_are_reported(replica: Path) -> None:
    (replica / "images" / f"{HASHES[1]}.jpg").unlink()
    with pytest.raises(DataError, match=f"no image file.*\n.*{HASHES[1]}"):
        load_table(lambda: read_fitzpatrick17k(str(replica)), TableOptions(), Flow())


def test_every_class_is_in_the_taxonomy_and_of_known_malignancy() -> None:
    for code in (*THREE.values(), *NINE.values()):
        assert isinstance(taxonomy.is_malignant(code), bool)
    assert sum(INFO.published_counts.values()) == 16_577
