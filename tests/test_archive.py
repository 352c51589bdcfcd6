from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path

import pytest

from lesion_exp import archive
from lesion_exp.archive import file_of, members_of, open_archive, size_and_checksum, size_of, split_locator
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_bytes


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = name  # as a Windows program writes it
            info.compress_type = compression
            opened.writestr(info, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("locator", "file", "inner"),
    [
        ("/data/a.jpg", "/data/a.jpg", ("", "/data/a.jpg")),
        ("/data/A.ZIP!/in/a.jpg", "/data/A.ZIP", ("/data/A.ZIP", "in/a.jpg")),
        ("/data/a.zip!/b.zip!/in/a.jpg", "/data/a.zip", ("/data/a.zip!/b.zip", "in/a.jpg")),
        ("/data/t.hdf5!/ISIC_1", "/data/t.hdf5", ("/data/t.hdf5", "ISIC_1")),
        ("/data/new!/a.jpg", "/data/new!/a.jpg", ("", "/data/new!/a.jpg")),
    ],
)
def test_locators_are_taken_apart_at_containers_only(locator: str, file: str, inner: tuple[str, str]) -> None:
    assert file_of(locator) == file
    assert split_locator(locator) == inner


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("middle", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_inside_zips_are_read_as_they_are(tmp_path: Path, outer: int, middle: int) -> None:
    pictures = {f"part/{number}.jpg": bytes([number]) * 5000 for number in range(40)}
    inner = _zip({"images.zip": _zip(pictures), "t.csv": b"a"}, middle)
    (tmp_path / "download.zip").write_bytes(_zip({"readme.txt": b"x" * 100, "deep.zip": inner}, outer))
    found = list(members_of(str(tmp_path / "download.zip")))
    start = f"{tmp_path}/download.zip!/deep.zip!/"
    assert found[:2] == [f"{start}images.zip!/part/0.jpg", f"{start}images.zip!/part/1.jpg"]
    assert found[-2:] == [f"{start}t.csv", f"{tmp_path}/download.zip!/readme.txt"]
    assert {name: read_bytes(f"{start}images.zip!/{name}") for name in pictures} == pictures


def test_threads_read_from_one_inner_zip(tmp_path: Path) -> None:
    pictures = {f"{number}.jpg": os.urandom(2000) for number in range(60)}
    (tmp_path / "a.zip").write_bytes(_zip({"b.zip": _zip(pictures)}))
    wrong: list[str] = []

    def read() -> None:
        wrong.extend(
            name for name, content in pictures.items() if read_bytes(f"{tmp_path}/a.zip!/b.zip!/{name}") != content
        )

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_backslashes_of_windows_are_slashes(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"images\\": b"", "images\\nv\\X.jpg": b"1", "__MACOSX\\x.jpg": b"2"}))
    assert list(members_of(str(tmp_path / "a.zip"))) == [f"{tmp_path}/a.zip!/images/nv/X.jpg"]
    assert read_bytes(f"{tmp_path}/a.zip!/images/nv/X.jpg") == b"1"


def test_a_zip_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"x.jpg": b"old"}))
    assert read_bytes(f"{path}!/x.jpg") == b"old"
    path.write_bytes(_zip({"x.jpg": b"newer"}))
    assert read_bytes(f"{path}!/x.jpg") == b"newer"


def test_a_zip_without_end_is_refused(tmp_path: Path) -> None:
    packed = _zip({"x.jpg": b"1"})
    for _ in range(archive.MAX_DEPTH):
        packed = _zip({"in.zip": packed})
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(DataError, match="at most 3 zips inside one another"):
        list(members_of(str(tmp_path / "a.zip")))


def test_a_zip_with_a_password_says_so(tmp_path: Path) -> None:
    packed = bytearray(_zip({"x.jpg": b"1"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(packed))
    with pytest.raises(DataError, match="without a password"):
        open_archive(str(tmp_path / "a.zip"))


def test_a_broken_inner_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"b.zip": b"PK no zip"}))
    with pytest.raises(DataError, match=r"a\.zip!/b\.zip.*download it again"):
        list(members_of(str(tmp_path / "a.zip")))


def test_a_compression_that_zipfile_does_not_know_is_told_with_a_remedy(tmp_path: Path) -> None:
    packed = bytearray(_zip({"b.zip": _zip({"x.jpg": b"1"})}))
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = packed.index(signature) + method
        packed[place : place + 2] = (9).to_bytes(2, "little")  # Deflate64, as Windows packs large files
    (tmp_path / "a.zip").write_bytes(bytes(packed))
    with pytest.raises(
        DataError, match=r"a\.zip!/b\.zip with a compression that Python supports.*; unzip .*a\.zip with"
    ) as told:
        list(members_of(str(tmp_path / "a.zip")))
    assert isinstance(told.value.__cause__, NotImplementedError)


def test_no_room_to_unpack_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"b.zip": _zip({"x.jpg": b"1"})}))
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 3}))
    with pytest.raises(DataError, match=r"free bytes in .*unzip .*a\.zip"):
        list(members_of(str(tmp_path / "a.zip")))


def test_a_file_that_a_zip_does_not_have_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"x.jpg": b"1"}))
    missing = f"{tmp_path}/a.zip!/y.jpg"
    for read in (read_bytes, size_and_checksum):
        with pytest.raises(DataError, match=r"expected y\.jpg in the zip .*a\.zip, but it has no such file"):
            read(missing)
    assert size_of(missing) == -1


def test_a_pipe_is_no_zip(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match="pipe or device"):
        open_archive(str(tmp_path / "a.zip"))


def test_a_file_and_its_zipped_copy_have_the_same_checksum(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"pixels")
    (tmp_path / "a.zip").write_bytes(_zip({"b.zip": _zip({"x.jpg": b"pixels", "y.jpg": b"others"})}))
    plain = size_and_checksum(f"{tmp_path}/x.jpg")
    assert plain == size_and_checksum(f"{tmp_path}/a.zip!/b.zip!/x.jpg")
    assert plain != size_and_checksum(f"{tmp_path}/a.zip!/b.zip!/y.jpg")
