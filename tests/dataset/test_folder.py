from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.folder import read_folder
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.image_file import read_image


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*.jpg")):
            opened.write(path, str(path.relative_to(folder)))
            path.unlink()


def _labels(root: Path) -> dict[str, str]:
    table = read_folder(str(root))
    return dict(zip(table["image_id"], table["label"], strict=True))


def test_a_folder_a_class(tmp_path: Path) -> None:
    _pictures(tmp_path, "MEL/1.jpg", "nv/deep/2.png", "my class/3.bmp")
    (tmp_path / "notes.txt").write_text("x")
    assert _labels(tmp_path) == {"MEL/1": "mel", "nv/deep/2": "nv", "my class/3": "my class"}
    assert "official_split" not in read_folder(str(tmp_path))


def test_class_folders_are_mapped_to_classes_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _pictures(tmp_path, "Melanoma/1.jpg", "Naevi/2.png", "Junk/3.png", "Blurred/4.png")
    given = {"melanoma": "mel", "Naevi": "nv", "Blurred": None, "Keratoses": "bkl"}
    table = read_folder(str(tmp_path), labels=given).set_index("image_id")
    assert table["label"].where(table["label"].notna(), None).to_dict() == {
        "Melanoma/1": "mel", "Naevi/2": "nv", "Junk/3": None, "Blurred/4": None
    }  # fmt: skip
    assert table.loc["Junk/3", "raw_label"] == "Junk"
    assert "labels that the data set does not have: 'keratoses'" in caplog.text


def test_train_val_test_above_the_classes(tmp_path: Path) -> None:
    _pictures(tmp_path, "train/mel/1.jpg", "train/nv/1.jpg", "Validation/nv/1.jpg", "test/mel/1.jpg")
    table = read_folder(str(tmp_path)).set_index("image_id")
    assert table["label"].to_dict() == {
        "Validation/nv/1": "nv",
        "test/mel/1": "mel",
        "train/mel/1": "mel",
        "train/nv/1": "nv",
    }
    assert table["official_split"].to_dict() == {
        "Validation/nv/1": "val",
        "test/mel/1": "test",
        "train/mel/1": "train",
        "train/nv/1": "train",
    }


def test_one_zip_with_a_wrapping_folder(tmp_path: Path) -> None:
    _pictures(tmp_path / "unpacked", "lesions/mel/1.jpg", "lesions/nv/2.jpg")
    _zip(tmp_path / "unpacked", tmp_path / "lesions.zip")
    assert _labels(tmp_path) == {"mel/1": "mel", "nv/2": "nv"}
    assert read_image(read_folder(str(tmp_path))["image_path"][0]).shape == (8, 8, 3)


def test_a_zip_a_class_and_a_zip_a_part(tmp_path: Path) -> None:
    for name, pictures in {"mel": ["1.jpg"], "nv": ["nv/2.jpg"]}.items():
        _pictures(tmp_path / "x", *pictures)
        _zip(tmp_path / "x", tmp_path / f"{name}.zip")
    assert _labels(tmp_path) == {"mel/1": "mel", "nv/2": "nv"}
    other = tmp_path / "parts"
    for name, pictures in {"train": ["mel/1.jpg", "nv/1.jpg"], "test": ["test/mel/1.jpg"]}.items():
        _pictures(tmp_path / "y", *pictures)
        other.mkdir(exist_ok=True)
        _zip(tmp_path / "y", other / f"{name}.zip")
    assert _labels(other) == {"test/mel/1": "mel", "train/mel/1": "mel", "train/nv/1": "nv"}


def test_a_zip_beside_what_it_held_doubles_nothing(tmp_path: Path) -> None:
    _pictures(tmp_path, "mel/1.jpg", "nv/2.jpg")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "mel" / "1.jpg", "mel/1.jpg")
    assert _labels(tmp_path) == {"mel/1": "mel", "nv/2": "nv"}


def test_an_image_in_no_folder_has_no_known_label(tmp_path: Path) -> None:
    _pictures(tmp_path, "stray.jpg", "nv/1.jpg")
    table = read_folder(str(tmp_path)).set_index("image_id")
    assert table.loc["stray", "label"] is None
    assert table.loc["stray", "raw_label"] == "(in no class folder)"


def test_lesions_by_pattern(tmp_path: Path) -> None:
    _pictures(tmp_path, "mel/HAM_1-a.jpg", "mel/HAM_1-b.jpg", "nv/other.jpg")
    table = read_folder(str(tmp_path), lesion_pattern="(HAM_[0-9]+)")
    assert table["lesion_id"].tolist() == ["HAM_1", "HAM_1", None]


@pytest.mark.parametrize(
    ("pattern", "part"), [("(", "regular expression"), ("HAM", "have a group"), ("(HAM)", "matches none")]
)
def test_wrong_patterns(tmp_path: Path, pattern: str, part: str) -> None:
    _pictures(tmp_path, "mel/1.jpg", "nv/1.jpg")
    with pytest.raises(ConfigError, match=part):
        read_folder(str(tmp_path), lesion_pattern=pattern)


def test_folders_that_are_only_partly_parts_are_refused(tmp_path: Path) -> None:
    _pictures(tmp_path, "train/mel/1.jpg", "nv/1.jpg")
    with pytest.raises(DataError, match=r"(?s)1 of 2 lie elsewhere.*nv/1\.jpg"):
        read_folder(str(tmp_path))


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"(?s)found 1 other file:.*notes\.txt.*set dataset\.root=DIR"):
        read_folder(str(tmp_path))


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no file there\nset dataset\.root=DIR"):
        read_folder(str(tmp_path))


def test_folders_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    _pictures(tmp_path, "na\u0308vus/1.jpg", "n\u00e4vus/2.jpg", "mel/3.jpg", "NA/4.jpg")
    table = read_folder(str(tmp_path))
    assert sorted(table["label"].value_counts().to_dict().items()) == [("mel", 1), ("na", 1), ("n\u00e4vus", 2)]
    assert table["image_path"].map(lambda path: Path(path).is_file()).all()


@pytest.mark.parametrize("ending", ["npy", "mat", "gif", "ARW"])
def test_a_class_of_files_that_are_no_images_is_an_error(tmp_path: Path, ending: str) -> None:
    _pictures(tmp_path, "mel/1.jpg", "nv/1.jpg")
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / f"a.{ending}").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 folders hold only files of other kinds:\s+- bcc: bcc/a"):
        read_folder(str(tmp_path))
    assert set(read_folder(str(tmp_path), ignore=["bcc/*"])["label"]) == {"mel", "nv"}


def test_an_empty_class_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _pictures(tmp_path, "mel/1.jpg", "nv/deep/1.jpg")
    read_folder(str(tmp_path))
    assert not caplog.records
    (tmp_path / "bcc").mkdir()
    (tmp_path / ".git").mkdir()
    read_folder(str(tmp_path))
    assert re.search(
        r"1 folders below .* hold no file that is read, and are not classes, for example\s+- bcc$", caplog.text, re.M
    )


def test_classes_below_folders_that_are_no_parts_are_refused(tmp_path: Path) -> None:
    _pictures(tmp_path, *(f"{clinic}/{name}/{clinic}.jpg" for clinic in ("a", "b") for name in ("mel", "Nevus")))
    with pytest.raises(DataError, match=r"each of the folders a, b holds mel, nevus; .* dataset\.root=(\S+)") as caught:
        read_folder(str(tmp_path))
    root = re.search(r"dataset\.root=(\S+)", str(caught.value))
    assert root is not None
    assert set(_labels(Path(root[1])).values()) == {"mel", "nevus"}


def test_folders_of_views_below_the_classes_are_no_classes(tmp_path: Path) -> None:
    _pictures(tmp_path, *(f"{name}/{view}/1.jpg" for name in ("mine", "nv") for view in ("close", "far")))
    assert set(_labels(tmp_path).values()) == {"mine", "nv"}
