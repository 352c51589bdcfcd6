from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.csv import read_csv
from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.table import named_labels
from lesion_exp.errors import ConfigError, DataError


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def test_standard_names_need_no_mapping(tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures", "001.jpg", "002.png")
    (tmp_path / "t.csv").write_text("image_id,label,age,sex,lesion_id,thickness\n001,MEL,50,F,7,0.5\n002,nv,,M,,\n")
    table = read_csv(str(tmp_path), "t.csv")
    assert table["image_id"].tolist() == ["001", "002"]
    assert table["label"].tolist() == ["mel", "nv"]
    assert table["lesion_id"].tolist() == ["7", None]
    assert table["age"].fillna(-1).tolist() == [50, -1]
    assert table["thickness"].fillna(-1).tolist() == [0.5, -1]
    assert [Path(path).name for path in table["image_path"]] == ["001.jpg", "002.png"]


def test_columns_and_labels_are_mapped(tmp_path: Path) -> None:
    _pictures(tmp_path, "a_dermoscopic.jpg", "a_clinical.jpg", "b_dermoscopic.jpg")
    (tmp_path / "t.csv").write_text("case;dx;years;source\na;Melanoma;30;clinic\nb;naevus;40;clinic\n")
    table = read_csv(
        str(tmp_path),
        "t.csv",
        columns={"image_id": "case", "label": "dx", "age": "years"},
        labels={"melanoma": "mel"},
        image_suffix="_dermoscopic",
    )
    assert table["label"].tolist() == ["mel", None]
    assert table["raw_label"].tolist() == ["Melanoma", "naevus"]
    assert [Path(path).name for path in table["image_path"]] == ["a_dermoscopic.jpg", "b_dermoscopic.jpg"]
    assert table["source"].tolist() == ["csv", "csv"]
    assert table["file_source"].tolist() == ["clinic", "clinic"]
    assert table["age"].tolist() == [30, 40]


def test_a_one_hot_ground_truth(tmp_path: Path) -> None:
    _pictures(tmp_path, "x.jpg", "y.jpg")
    (tmp_path / "gt.csv").write_text("image,MEL,NV,label\nx,0,1,ignored\ny,1.0,0.0,ignored\n")
    table = read_csv(str(tmp_path), "gt.csv", columns={"image_id": "image"}, one_hot=["MEL", "NV"])
    assert table["label"].tolist() == ["nv", "mel"]
    assert "MEL" not in table


def test_image_paths_relative_to_the_table_to_the_root_absolute_and_missing(tmp_path: Path) -> None:
    _pictures(tmp_path, "meta/near.jpg", "far/away.jpg", "far/absolute.jpg", "far/mask.png")
    (tmp_path / "meta" / "t.csv").write_text(
        "image_path,mask_path,label\n"
        f"near.jpg,,nv\nfar/away.jpg,far\\mask.png,nv\n{tmp_path}/far/absolute.jpg,,nv\nnone.jpg,none.png,nv\n"
    )
    table = read_csv(str(tmp_path), "t.csv")
    folder = str(tmp_path)
    assert table["image_path"].tolist() == [
        f"{folder}/meta/near.jpg",
        f"{folder}/far/away.jpg",
        f"{folder}/far/absolute.jpg",
        None,
    ]
    assert table["mask_path"].tolist() == [None, f"{folder}/far/mask.png", None, None]
    assert table["image_id"].tolist() == ["near", "far/away", f"{folder}/far/absolute", "none"]


def test_a_table_and_its_images_in_one_zip(tmp_path: Path) -> None:
    _pictures(tmp_path, "x.jpg")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("set/t.csv", "image_path,label\nimages/x.jpg,nv\nset/images/x.jpg,nv\n")
        archive.write(tmp_path / "x.jpg", "set/images/x.jpg")
    (tmp_path / "x.jpg").unlink()
    expected = f"{tmp_path}/all.zip!/set/images/x.jpg"
    assert read_csv(str(tmp_path), "t.csv")["image_path"].tolist() == [expected, expected]


def test_the_pattern_says_where_images_are(tmp_path: Path) -> None:
    _pictures(tmp_path, "large/x.jpg", "small/x.jpg")
    (tmp_path / "t.csv").write_text("image_id,label\nx,nv\nx.jpg,nv\n")
    table = read_csv(str(tmp_path), "t.csv", images="small/*.jpg")
    assert table["image_path"].tolist() == [f"{tmp_path}/small/x.jpg"] * 2


def test_official_parts_are_normalised(tmp_path: Path) -> None:
    _pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "t.csv").write_text("image_id,label,official_split\na,nv,Training\nb,nv,valid\nc,nv,\n")
    assert read_csv(str(tmp_path), "t.csv")["official_split"].tolist() == ["train", "val", None]
    (tmp_path / "t.csv").write_text("image_id,label,official_split\na,nv,fold3\n")
    with pytest.raises(DataError, match=r"got fold3; .*official_split: null"):
        read_csv(str(tmp_path), "t.csv")
    assert "official_split" not in read_csv(str(tmp_path), "t.csv", columns={"official_split": None})


def test_missing_labels_stay_missing(tmp_path: Path) -> None:
    _pictures(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_text("image_id,label\na,nv\nb,\n")
    assert read_csv(str(tmp_path), "t.csv")["label"].tolist() == ["nv", None]


@pytest.mark.parametrize(
    ("columns", "error", "part"),
    [
        ({"image_idd": "case"}, ConfigError, "did you mean 'image_id'"),
        ({"image_id": "cas", "label": "dx"}, DataError, "columns cas in t.csv"),
        ({"image_id": "case"}, ConfigError, "a key that names the labels"),
        ({"label": "dx"}, ConfigError, "a key that names the images"),
    ],
)
def test_wrong_mappings(tmp_path: Path, columns: dict[str, str], error: type[Exception], part: str) -> None:
    (tmp_path / "t.csv").write_text("case,dx\na,nv\n")
    with pytest.raises(error, match=part):
        read_csv(str(tmp_path), "t.csv", columns=columns)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected t\.csv"):
        read_csv(str(tmp_path), "t.csv")


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("dataset.labels", {"labels": {False: "nv", "mel": "mel"}}),
        ("dataset.labels.nv", {"labels": {"nv": True}}),
        ("dataset.columns.image_id", {"columns": {"image_id": False}}),
        ("dataset.one_hot", {"one_hot": ["mel", False]}),
        ("dataset.labels", {"labels": {1.5: "nv"}}),
    ],
)
def test_words_that_yaml_reads_as_truth_values_are_refused(
    tmp_path: Path, key: str, options: dict[str, object]
) -> None:
    (tmp_path / "t.csv").write_text("image_id,label\na,no\n")
    with pytest.raises(ConfigError, match=rf"expected names \(text\) in {key}, got .*put quotes around the name"):
        read_csv(str(tmp_path), "t.csv", **options)  # type: ignore[arg-type]


def test_whole_numbers_with_a_decimal_are_the_same_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image_id,label\na,0.0\nb,1.0\nc,\n")
    for labels in ({0: "nv", 1: "mel"}, {0.0: "nv", 1.0: "mel"}):
        assert read_csv(str(tmp_path), "t.csv", labels=labels)["label"].tolist() == ["nv", "mel", None]  # type: ignore[arg-type]


def test_numbers_are_labels_and_absent_labels_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.csv").write_text("image_id,label\na,0\nb,1\nc,\n")
    table = read_csv(str(tmp_path), "t.csv", labels={0: "benign", 1: "malignant", 2: "other", 3: None})  # type: ignore[dict-item]
    assert table["label"].tolist() == ["benign", "malignant", None]
    assert "dataset.labels names labels that the data set does not have: '2', '3'" in caplog.text


def test_labels_in_another_unicode_form_or_with_further_blanks_are_not_absent(caplog: pytest.LogCaptureFixture) -> None:
    composed, decomposed = "N\u00e6vus bl\u00e9u", "N\u00e6vus  ble\u0301u"  # as macOS names folders
    assert named_labels({composed: "nv", "Naevus": "nv"}, [decomposed]) == {composed: "nv", "Naevus": "nv"}
    assert caplog.text.count("does not have: 'naevus'") == 1


def test_a_label_na_is_a_class_only_where_the_config_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image_id,label\na,NA\nb,nv\nc,null\n")
    table = read_csv(str(tmp_path), "t.csv")
    assert table["label"].tolist() == [None, "nv", None]
    assert table["raw_label"].tolist() == ["NA", "nv", "null"]
    assert read_csv(str(tmp_path), "t.csv", labels={"NA": "na", "nv": "nv"})["label"].tolist() == ["na", "nv", None]


def test_ids_below_a_header_with_blanks_stay_texts(tmp_path: Path) -> None:
    _pictures(tmp_path, "007.jpg")
    (tmp_path / "t.csv").write_text("case ,dx, who\n007,nv,012\n")
    table = read_csv(str(tmp_path), "t.csv", columns={"image_id": "case", "label": "dx", "patient_id": "who"})
    assert table["image_id"].tolist() == ["007"]
    assert table["patient_id"].tolist() == ["012"]
    assert table["image_path"].notna().all()


def test_the_encoding_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("image_id,label\na,меланома\n".encode("cp1251"))
    assert read_csv(str(tmp_path), "t.csv", encoding="cp1251")["label"].tolist() == ["меланома"]


def test_patients_whose_names_differ_by_a_letter_of_windows_are_different(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("image_id;label;patient_id\na;mel;Fall-ä\nb;nv;Fall-ö\n".encode("cp1252"))
    assert read_csv(str(tmp_path), "t.csv")["patient_id"].tolist() == ["Fall-ä", "Fall-ö"]


def test_a_workbook_called_csv_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.csv", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match=r"t\.csv, but it is an Excel workbook or a zip.*CSV UTF-8"):
        read_csv(str(tmp_path), "t.csv")


@pytest.mark.parametrize("name", ["x" * 5000, "/" + "x" * 5000, "/dev/zero", ".", "~nobody/x", "/etc"])
def test_a_name_that_no_disk_holds_or_that_is_no_file_is_a_missing_image(tmp_path: Path, name: str) -> None:
    _pictures(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(f"image_path,label\na.png,nv\n{name},nv\n")
    assert read_csv(str(tmp_path), "t.csv")["image_path"].isna().tolist() == [False, True]


def test_numbers_with_a_decimal_comma_are_numbers_in_every_column(tmp_path: Path) -> None:
    _pictures(tmp_path, "001.jpg", "002.jpg")
    (tmp_path / "t.csv").write_text(
        "image_id;label;age;thickness;width;pixels\n001;mel;50,5;0,5;1;1,024\n002;nv;40;1,25;2;2,048\n"
    )
    with collected_findings() as found:
        table = read_csv(str(tmp_path), "t.csv")
    assert table["age"].tolist() == [50.5, 40]
    assert table["thickness"].tolist() == [0.5, 1.25]
    assert table["width"].tolist() == [1, 2]
    assert table["pixels"].tolist() == ["1,024", "2,048"], "decimal numbers or thousands: nobody knows"
    said = [each.text for each in found if "decimal commas" in each.text]
    assert said == ["t.csv has decimal commas in these columns, which are read as numbers: thickness"]
