from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.ham10000 import INFO, read_ham10000
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.image_file import read_image, read_mask

HEADER = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
ROWS = [
    ["HAM_1", "ISIC_1", "mel", "histo", 50.0, "male", "back"],
    ["HAM_1", "ISIC_2", "mel", "histo", 50.0, "male", "back"],
    ["HAM_2", "ISIC_3", "nv", "follow_up", None, "unknown", "unknown"],
]


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 120, 90)).save(path)


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS, columns=HEADER).to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    for part, image_id in ((1, "ISIC_1"), (1, "ISIC_2"), (2, "ISIC_3")):
        _picture(tmp_path / f"HAM10000_images_part_{part}" / f"{image_id}.jpg")
    return tmp_path


@pytest.fixture(scope="module")
def real_table(real_ham10000: Path) -> pd.DataFrame:
    return read_ham10000(str(real_ham10000))


def test_the_real_set_has_the_published_counts(real_table: pd.DataFrame) -> None:
    assert len(real_table) == 10_015
    assert real_table["label"].value_counts().to_dict() == INFO.published_counts
    assert real_table["lesion_id"].nunique() == 7_470
    assert real_table["lesion_id"].value_counts().value_counts().to_dict() == {
        1: 5514,
        2: 1423,
        3: 490,
        4: 34,
        5: 5,
        6: 4,
    }
    assert real_table["age"].isna().sum() == 57
    assert (real_table["age"] == 0).sum() == 39
    assert (real_table["site"] == "unknown").sum() == 234


def test_every_real_image_and_mask_is_located_and_fits(real_table: pd.DataFrame) -> None:
    assert real_table["image_path"].notna().all()
    assert real_table["mask_path"].notna().all()
    assert real_table["image_path"].is_unique
    for row in real_table.sample(5, random_state=0).itertuples():
        assert row.image_id in row.image_path
        assert row.image_id in row.mask_path
        image = read_image(row.image_path)
        mask = read_mask(row.mask_path, image.shape[:2])
        assert 0 < (mask == 255).mean() < 1


def test_drop_unknown_leaves_out_254_real_images_of_which_214_are_nevi(real_table: pd.DataFrame) -> None:
    flow = Flow()
    kept = load_table(lambda: real_table, TableOptions(drop_unknown=True), flow)
    lost = real_table[~real_table["image_id"].isin(kept["image_id"])]
    assert len(lost) == 254
    assert (lost["label"] == "nv").sum() == 214
    assert flow.steps[0].lesions == 7_470
    assert flow.steps[-1].images == 9_761


def test_unpacked_real_files_give_the_same_table(real_ham10000: Path, real_table: pd.DataFrame, tmp_path: Path) -> None:
    ids = real_table["image_id"][::1500]
    metadata = pd.read_csv(real_ham10000 / "HAM10000_metadata.csv")
    metadata[metadata["image_id"].isin(ids)].to_csv(tmp_path / "HAM10000_metadata", index=False)
    for archive in real_ham10000.glob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            wanted = [name for name in opened.namelist() if Path(name).stem.removesuffix("_segmentation") in set(ids)]
            opened.extractall(tmp_path / "somewhere" / archive.stem, wanted)
    unpacked = read_ham10000(str(tmp_path))
    paths = ["image_path", "mask_path"]
    expected = real_table[real_table["image_id"].isin(ids)].reset_index(drop=True)
    pd.testing.assert_frame_equal(unpacked.drop(columns=paths), expected.drop(columns=paths))
    assert "!/" not in unpacked[paths].to_numpy().sum()
    for ours, theirs in zip(unpacked["image_path"], expected["image_path"], strict=True):
        assert (read_image(ours) == read_image(theirs)).all()


@pytest.mark.parametrize(("name", "delimiter"), [("HAM10000_metadata", ","), ("HAM10000_metadata.tab", "\t")])
def test_the_archives_eight_column_variants_are_read(replica: Path, name: str, delimiter: str) -> None:
    (replica / "HAM10000_metadata.csv").unlink()
    frame = pd.DataFrame(ROWS, columns=HEADER).assign(dataset="vidir_modern")
    frame.to_csv(replica / name, index=False, sep=delimiter, quoting=1)
    table = read_ham10000(str(replica))
    assert table["label"].tolist() == ["mel", "mel", "nv"]
    assert table["lesion_id"].tolist() == ["HAM_1", "HAM_1", "HAM_2"]
    assert table["dataset"].unique().tolist() == ["vidir_modern"]


def test_how_a_diagnosis_was_confirmed_survives_only_as_a_leaking_column(replica: Path) -> None:
    table = read_ham10000(str(replica))
    assert "dx_type" not in table
    assert "dx" not in table
    assert table["leaks_dx_type"].tolist() == ["histo", "histo", "follow_up"]


@pytest.mark.parametrize("published_by", ["archive", "challenge"])
def test_the_official_test_part_without_the_unscored_image(replica: Path, published_by: str) -> None:
    if published_by == "archive":
        test = pd.DataFrame(
            [["HAM_8", "ISIC_0034524", "nv", "histo", 40, "male", "back"], ["HAM_9", "ISIC_0035068", *ROWS[0][2:]]],
            columns=HEADER,
        )
    else:
        classes = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
        hot = [[float(name == "NV") for name in classes]] * 2
        test = pd.DataFrame(hot, columns=classes)
        test.insert(0, "image", ["ISIC_0034524", "ISIC_0035068"])
    test.to_csv(replica / "ISIC2018_Task3_Test_GroundTruth.csv", index=False)
    _picture(replica / "ISIC2018_Task3_Test_Images" / "ISIC_0034524.jpg")
    table = read_ham10000(str(replica), parts=["test", "train"])
    assert table["official_split"].tolist() == ["train"] * 3 + ["test"]
    assert table["label"].tolist()[-1] == "nv"
    assert table["image_path"].notna().all()
    assert set(read_ham10000(str(replica))["official_split"]) == {"train"}


def test_parts_that_do_not_exist_are_refused(replica: Path) -> None:
    with pytest.raises(ConfigError, match="'tests'; did you mean 'test'"):
        read_ham10000(str(replica), parts=["tests"])
    with pytest.raises(ConfigError, match="at least one"):
        read_ham10000(str(replica), parts=[])
    with pytest.raises(DataError, match="ISIC2018_Task3_Test_GroundTruth"):
        read_ham10000(str(replica), parts=["train", "test"])


def test_a_missing_column_is_named(replica: Path) -> None:
    pd.DataFrame(ROWS, columns=HEADER).drop(columns="dx").to_csv(replica / "HAM10000_metadata.csv", index=False)
    with pytest.raises(DataError, match=r"columns dx in HAM10000_metadata\.csv"):
        read_ham10000(str(replica))


def test_a_missing_image_and_an_unknown_label_stay_in_the_table_for_the_loader(replica: Path) -> None:
    (replica / "HAM10000_images_part_1" / "ISIC_2.jpg").unlink()
    rows = [*ROWS[:2], [*ROWS[2][:2], "nvv", *ROWS[2][3:]]]
    pd.DataFrame(rows, columns=HEADER).to_csv(replica / "HAM10000_metadata.csv", index=False)
    table = read_ham10000(str(replica))
    assert table["image_path"].isna().tolist() == [False, True, False]
    assert table["label"].tolist() == ["mel", "mel", None]
    assert table["raw_label"].tolist() == ["mel", "mel", "nvv"]
