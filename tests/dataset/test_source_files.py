from __future__ import annotations

import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import pytest

from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_bytes


def _zip(path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def test_files_are_found_deep_and_inside_zips_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "One.JPG").write_text("1")
    _zip(
        tmp_path / "a" / "images.zip", {"inner/two.jpg": "2", "__MACOSX/inner/._two.jpg": "x", "inner/.hidden.jpg": "x"}
    )
    files = SourceFiles(tmp_path)
    assert [read_bytes(found) for found in files.find("*.jpg")] == [b"1", b"2"]
    assert files.find("inner/*.jpg") == [f"{tmp_path}/a/images.zip!/inner/two.jpg"]


def test_an_unpacked_file_goes_before_its_zipped_twin(tmp_path: Path) -> None:
    _zip(tmp_path / "a.zip", {"x.csv": "the same"})
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "x.csv").write_text("the same")
    assert SourceFiles(tmp_path).require("x.csv") == f"{tmp_path}/z/x.csv"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "x.jpg").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    assert len(SourceFiles(root).find("x.jpg")) == 1


@pytest.mark.parametrize(("name", "what"), [("nothing_here", "nothing"), ("file.txt", "a file")])
def test_a_wrong_root_says_what_is_there(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match=rf"(?s)HAM10000.*{what} is at .*dataset\.root=DIR"):
        SourceFiles(tmp_path / name, "HAM10000")


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK broken")
    with pytest.raises(DataError, match=r"images\.zip.*download it again"):
        SourceFiles(tmp_path)


def test_a_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("x")
    with pytest.raises(DataError, match=r"(?s)expected meta\.csv or meta\.tab of HAM.*found 1 other.*other\.csv"):
        SourceFiles(tmp_path, "HAM").require("meta.csv", "meta.tab")


def test_archives_that_cannot_be_read_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "PH2Dataset.rar").write_text("x")
    with pytest.raises(DataError, match=r"unpack PH2Dataset\.rar \(only zips"):
        SourceFiles(tmp_path, "PH2").require("PH2_dataset.xlsx")


def test_names_that_are_no_utf8_are_refused_and_can_be_left_out(tmp_path):
    (tmp_path / "nv").mkdir()
    (tmp_path / "nv" / "a.png").write_bytes(b"")
    for name in (b"nv/b\xff.png", b"nv/[1]\xfe.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    with pytest.raises(DataError, match=r"b\\xff\.png") as caught:
        SourceFiles(tmp_path)
    typed = shlex.split(re.search(r"'dataset\.ignore=.*'", str(caught.value))[0])[0]
    found = SourceFiles(tmp_path, ignore=json.loads(typed.partition("=")[2]))
    assert [Path(each).name for each in found.locators] == ["a.png"]
