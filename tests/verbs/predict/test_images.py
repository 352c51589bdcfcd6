import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.verbs.predict.images import check_source, contents_digest, images_of
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import requested_images


def names(images, folder):
    return [name.removeprefix(f"{folder}/") for name in images["image"]]


def test_a_folder_is_all_images_below_it(photographs, caplog):
    caplog.set_level("INFO")
    images = images_of(str(photographs))
    assert names(images, photographs) == sorted(
        [f"good{n}.png" for n in range(10)] + ["empty.png", "more/a b.jpg", "text.jpg", "truncated.png", "vast.png"]
    )
    assert all(Path(path).is_file() for path in images["image_path"])
    assert "1 .txt" in caplog.text


def test_images_are_called_what_the_user_wrote(photographs, monkeypatch):
    monkeypatch.chdir(photographs.parent)
    assert images_of("photographs/good0.png")["image"].tolist() == ["photographs/good0.png"]
    assert "photographs/more/a b.jpg" in images_of("photographs")["image"].tolist()
    assert images_of("photographs/good[01].png")["image"].tolist() == ["photographs/good0.png", "photographs/good1.png"]


def test_a_pattern_goes_through_folders(photographs):
    assert names(images_of(f"{photographs}/**/*.jpg"), photographs) == ["more/a b.jpg", "text.jpg"]
    assert names(images_of(f"{photographs}/mo*"), photographs) == ["more/a b.jpg"]
    assert names(images_of(f"{photographs}/n*"), photographs) == ["note.txt"], "named by the pattern, so not left out"


def test_a_zip_is_read_as_it_is_also_inside_a_folder(photographs, tmp_path):
    with zipfile.ZipFile(photographs / "packed.zip", "w") as archive:
        archive.write(photographs / "good0.png", "in/x.png")
        archive.writestr("in/readme.txt", "")
        archive.writestr("__MACOSX/in/._x.png", "")
    images = images_of(str(photographs / "packed.zip"))
    assert names(images, photographs) == ["packed.zip!/in/x.png"]
    assert images["image_path"][0] == str(photographs / "packed.zip!/in/x.png")
    assert "packed.zip!/in/x.png" in names(images_of(str(photographs)), photographs)
    (photographs / "torn.zip").write_bytes(b"PK")
    broken = images_of(str(photographs)).set_index("image").loc[f"{photographs}/torn.zip"]
    assert broken["image_path"] is None
    assert "cannot be opened" in broken["error"]


def test_a_table_finds_its_images_by_path_or_by_name(photographs, tmp_path, caplog):
    caplog.set_level("INFO")
    table = photographs.parent / "cases.csv"
    (photographs.parent / "torn.zip").write_bytes(b"no zip, and none of the images is in it")
    table.write_text(
        f"image;age;sex\n{photographs}/good0.png;50;f\nphotographs/good1.png;;m\ngood2;1;f\ngood3.png;2;f\nnone;3;f\n;;\n"
    )
    images = images_of(str(table), ["age"])
    found = [None if path is None else Path(path).name for path in images["image_path"]]
    assert found == ["good0.png", "good1.png", "good2.png", "good3.png", None, None]
    assert [bool(error) for error in images["error"]] == [False] * 4 + [True] * 2
    assert np.isnan(images["age"][1])
    assert images["age"][0] == 50.0
    assert "left out" not in caplog.text, "the table says which are meant"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "columns='{site: COLUMN}'"),
        ({"age": "years"}, "columns='{site: COLUMN, age: COLUMN}'"),
        ({"age": "localization"}, "columns='{age: localization, site: COLUMN}'"),
    ],
)
def test_the_column_to_name_is_the_one_that_is_lacking(photographs, columns, said):
    table = photographs / "cases.csv"
    table.write_text("image_id,age,sex,localization\ngood0,50,f,back\n")
    with pytest.raises(DataError) as caught:
        images_of(str(table), ["age", "sex", "site"], columns)
    assert said in str(caught.value)
    images_of(str(table), ["age", "sex", "site"], {"site": "localization"})


def test_a_table_without_images_and_without_what_the_network_needs_is_answered_with_both(photographs):
    table = photographs / "cases.csv"
    table.write_text("file,localization\ngood0.png,back\n")
    with pytest.raises(DataError) as caught:
        images_of(str(table), ["site"])
    assert "expected the columns image_path (or image, or image_id: a file name below the csv's folder), site in" in (
        str(caught.value)
    )
    assert "columns='{image_path: COLUMN, site: COLUMN}'" in str(caught.value)


def test_columns_of_another_name_are_mapped(photographs):
    table = photographs / "cases.csv"
    table.write_text("file,localization,outline\ngood0.png,Back,good1.png\n")
    images = images_of(str(table), ["site"], {"image_path": "file", "site": "localization", "mask_path": "outline"})
    assert images["site"].tolist() == ["back"]
    assert images["mask_path"].tolist() == [str(photographs / "good1.png")]


@pytest.mark.parametrize(
    ("header", "needed", "columns", "said"),
    [
        ("file,age", [], {}, "image_path"),
        ("image,age", ["age", "sex"], {}, "the columns sex in"),
        ("image,age", [], {"site": "place"}, "place"),
        ("image,age", [], {"patient": "age"}, "patient"),
    ],
)
def test_columns_that_lack_are_named(tmp_path, header, needed, columns, said):
    (tmp_path / "cases.csv").write_text(f"{header}\na,b\n")
    with pytest.raises((DataError, ConfigError), match=said):
        images_of(str(tmp_path / "cases.csv"), needed, columns)


def test_a_network_of_metadata_needs_a_table(photographs):
    with pytest.raises(DataError, match="age, sex, site"):
        images_of(str(photographs), ["age", "sex", "site"])


def test_nothing_to_predict_is_a_mistake(tmp_path):
    for source in (tmp_path, tmp_path / "absent", f"{tmp_path}/*.png"):
        for read in (images_of, check_source):
            with pytest.raises(DataError, match="input="):
                read(str(source))
    for read in (images_of, check_source):
        with pytest.raises(ConfigError, match="columns="):
            read(str(tmp_path), columns={"age": "years"})


def test_what_holds_no_image_is_known_before_any_is_read(tmp_path, photographs):
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
    with zipfile.ZipFile(photographs / "packed.zip", "w") as archive:
        archive.write(photographs / "good0.png", "in/x.png")
    (photographs / "torn.zip").write_bytes(b"PK\3\4 torn")
    (tmp_path / "other.csv").write_text("name,age\na,5\n")
    (tmp_path / "new.csv").write_text("image\n")
    for name, said in (("notes.zip", "found none"), ("other.csv", "image_path"), ("new.csv", "a header alone")):
        with pytest.raises(DataError, match=said):
            check_source(str(tmp_path / name))
    for name in ("", "good0.png", "good*.png", "packed.zip", "torn.zip", "packed.zip!/in/x.png"):
        check_source(f"{photographs}/{name}")
    check_source(str(tmp_path / "other.csv"), {"image": "name"})


def test_a_table_without_a_row_is_a_mistake(tmp_path):
    (tmp_path / "new.csv").write_text("image_path\n")
    with pytest.raises(DataError, match=r"a row for each image in .*new\.csv, got a header alone"):
        images_of(str(tmp_path / "new.csv"))


def test_names_that_are_no_text_are_shown_as_such(photographs):
    Path(os.fsdecode(os.fsencode(photographs) + b"/bad\xff.png")).write_bytes((photographs / "good0.png").read_bytes())
    images = images_of(str(photographs))
    assert "bad\ufffd.png" in names(images, photographs)
    assert len(contents_digest(images)) == 16


def test_a_changed_file_is_another_input(photographs):
    images = images_of(str(photographs))
    before = contents_digest(images)
    assert contents_digest(images_of(str(photographs))) == before
    (photographs / "good3.png").write_bytes(b"other")
    assert contents_digest(images) != before


def test_a_name_that_many_files_have_is_an_error_of_its_row(tmp_path):
    for number in range(48):
        (tmp_path / f"case{number}").mkdir()
        (tmp_path / f"case{number}" / "IMG_0001.jpg").write_bytes(bytes([number]))
    (tmp_path / "copy").mkdir()
    for folder in ("copy", "case0"):
        (tmp_path / folder / "same.jpg").write_bytes(b"the same")
    (tmp_path / "t.csv").write_text("image\nIMG_0001.jpg\ncase7/IMG_0001.jpg\nsame.jpg\n")
    images = images_of(str(tmp_path / "t.csv"))
    assert images["image_path"].tolist() == [
        None,
        str(tmp_path / "case7/IMG_0001.jpg"),
        str(tmp_path / "case0/same.jpg"),
    ]
    assert "case0/IMG_0001.jpg" in images["error"][0]
    assert "and 44 more; write its path into the table" in images["error"][0]


def test_masks_are_left_out_unless_they_are_asked_for(photographs, caplog):
    for name in ("good0_mask.png", "good1_segmentation.png"):
        (photographs / name).write_bytes((photographs / "good0.png").read_bytes())
    found = names(images_of(str(photographs)), photographs)
    assert not [name for name in found if "mask" in name or "segm" in name]
    assert "masks or superpixels by their names or folders: 2 files" in caplog.text
    assert names(images_of(f"{photographs}/*_mask.png"), photographs) == ["good0_mask.png"]
    assert "good0_mask.png" not in names(images_of(f"{photographs}/good*"), photographs)
    assert len(images_of(str(photographs / "good0_mask.png"))) == 1


def test_a_zip_inside_a_zip_is_read_as_it_is(photographs, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(photographs / "good0.png", "x.png")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(tmp_path / "in.zip", "in.zip")
    assert images_of(str(tmp_path / "out.zip"))["image_path"].tolist() == [f"{tmp_path}/out.zip!/in.zip!/x.png"]


@pytest.mark.parametrize("cell", ["", ".", "/"])
def test_a_row_that_names_no_file_has_an_error_and_the_others_their_ids(photographs, cell):
    table = photographs / "cases.csv"
    table.write_text(f"image,age\ngood0.png,50\n{cell},60\n")
    found = requested_images(PredictionRequest(source=str(table), output=Path("o.csv")), (), {})
    assert found.table["error"].tolist() == ["", "expected an image file of this name, found none"]
    assert found.known["image_id"].tolist() == ["good0", cell]
    assert found.known["age"].tolist() == ["50", "60"]
