"""Zips, also zips inside zips, read as if they were folders.

A *locator* names a file on the disk (`/data/a.jpg`), or a member of a container: `/data/images.zip!/a.jpg`,
`/data/download.zip!/images.zip!/a.jpg`, `/data/train.hdf5!/ISIC_0015670`, `/data/dermamnist.npz!/train_images/17`.
Members that a Windows program wrote with backslashes are named with slashes.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Final

from lesion_exp.errors import DataError

log = logging.getLogger(__name__)

SEPARATOR: Final = "!/"
ZIP: Final = ".zip"
MAX_DEPTH: Final = 3
"""Zips inside one another, at most: a zip can be made that holds itself."""
_CONTAINER: Final = re.compile(r"\.(?:zip|npz|hdf5|h5)(?=!/)", re.IGNORECASE)
_ENCRYPTED: Final = 0x1
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
"""Of the header before a member's bytes: the lengths of its name and of its extra field."""
_SHOWN_MEGABYTES: Final = 50


def file_of(locator: str) -> str:
    """The path on the disk of the file that holds `locator`."""
    found = _CONTAINER.search(locator)
    return locator[: found.end()] if found else locator


def split_locator(locator: str) -> tuple[str, str]:
    """The innermost container of `locator`, itself a locator, and the member in it; ("", path) for a plain file."""
    ends = [found.end() for found in _CONTAINER.finditer(locator)]
    return (locator[: ends[-1]], locator[ends[-1] + len(SEPARATOR) :]) if ends else ("", locator)


def join_locator(container: str, member: str) -> str:
    """The locator of `member` in `container`."""
    return f"{container}{SEPARATOR}{member}"


class Archive:
    """An open zip; several threads may read from it.

    Raises:
        DataError: it is no zip, or needs a password.
    """

    def __init__(self, locator: str, source: IO[bytes]) -> None:
        self.locator = locator
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, OSError, ValueError, struct.error) as error:
            raise DataError(
                f"expected a zip at {locator}, but it cannot be opened: {error}; download it again"
            ) from error
        self.members = {info.filename.replace("\\", "/"): info for info in self._zip.infolist()}
        if any(info.flag_bits & _ENCRYPTED for info in self.members.values()):
            raise DataError(
                f"expected a zip without a password at {locator}, but its files are encrypted; unpack it yourself, "
                f"and move the zip out of the folder"
            )

    @property
    def names(self) -> list[str]:
        """The names of the files in it, sorted, without folders."""
        return sorted(name for name in self.members if name and not name.endswith("/"))

    def size(self, name: str) -> int:
        """Bytes of a member once it is unpacked."""
        return self.members[name].file_size

    def checksum(self, name: str) -> int:
        """CRC-32 of a member's bytes, as the zip's directory holds it."""
        return self.members[name].CRC

    def read(self, name: str) -> bytes:
        """The bytes of a member."""
        with self._lock:
            return self._zip.read(self.members[name])

    def open_zip(self, name: str) -> IO[bytes]:
        """The zip inside this zip: a view of the outer file where it is stored as it is, else a temporary file."""
        info = self.members[name]
        with self._lock:
            source = self._zip.fp
            assert source is not None
            if info.compress_type == zipfile.ZIP_STORED:
                source.seek(info.header_offset)
                header = source.read(30)
                start = info.header_offset + len(header) + sum(_LOCAL_HEADER.unpack(header))
                return io.BufferedReader(_Slice(source, start, info.file_size))
            return self._unpack(info, name)

    def _unpack(self, info: zipfile.ZipInfo, name: str) -> IO[bytes]:
        remedy = f"unzip {file_of(self.locator)} and move it out of the folder"
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if info.file_size > free:
            raise DataError(
                f"expected {info.file_size:,} bytes of room in {tempfile.gettempdir()} for {name}, which lies "
                f"compressed in {self.locator}, got {free:,}; {remedy}, or set TMPDIR to a folder with more room"
            )
        if info.file_size > _SHOWN_MEGABYTES * 2**20:
            log.info("%s is compressed in %s and unpacked for each command; to save that time %s", name, self.locator,
                     remedy)  # fmt: skip
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the zip in it is open
        with self._zip.open(info) as member:
            shutil.copyfileobj(member, unpacked, 2**20)
        unpacked.seek(0)
        return unpacked


class _Slice(io.RawIOBase):
    """Some bytes of an open file, as a file that is read without moving the other."""

    def __init__(self, source: IO[bytes], start: int, length: int) -> None:
        self._source = source  # kept open
        outer = getattr(source, "raw", source)
        self.handle: int = outer.handle if isinstance(outer, _Slice) else source.fileno()
        self.start: int = start + (outer.start if isinstance(outer, _Slice) else 0)
        self._length, self._place = length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        if self._place < 0:
            raise ValueError(f"a place before the beginning: {self._place}")
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(self._length - self._place, 0))
        found = os.pread(self.handle, wanted, self.start + self._place)
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def open_archive(locator: str) -> Archive:
    """The zip at `locator` (a file, or a member of a zip), opened once for each process.

    Raises:
        DataError: it cannot be opened, or needs a password, or lies in too many others.
    """
    if locator.count(SEPARATOR) >= MAX_DEPTH:
        raise DataError(f"expected at most {MAX_DEPTH} zips in one another, got {locator}; unzip the outer ones")
    try:
        status = Path(file_of(locator)).stat()
    except OSError as error:
        raise DataError(f"expected a zip at {file_of(locator)}, but it cannot be opened: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"expected a regular file at {file_of(locator)}, got a folder, pipe or device; name the zip itself"
        )
    with _opening:
        return _opened(locator, status.st_size, status.st_mtime_ns, os.getpid())


_opening: Final = threading.RLock()  # several threads that want one zip must not unpack it several times


@lru_cache(maxsize=64)
def _opened(locator: str, size: int, changed: int, process: int) -> Archive:
    """Handles must not be shared across a fork, and a zip that was written anew is another one."""
    container, member = split_locator(locator)
    try:
        if not container:
            return Archive(locator, Path(locator).open("rb"))
        return Archive(locator, open_archive(container).open_zip(member))
    except (OSError, LookupError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as error:
        raise DataError(f"expected a zip at {locator}, but it cannot be opened: {error}; download it again") from error


def members_of(locator: str) -> Iterator[str]:
    """The locators of all files in the zip at `locator` and in the zips inside it, without those of the system.

    Raises:
        DataError: one of the zips cannot be opened.
    """
    for name in open_archive(locator).names:
        if is_clutter(PurePosixPath(name).parts):
            continue
        inner = join_locator(locator, name)
        if name.lower().endswith(ZIP):
            yield from members_of(inner)
        else:
            yield inner


def is_clutter(parts: tuple[str, ...]) -> bool:
    """Whether a path is one of the operating system's own: hidden, or in `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def size_and_checksum(locator: str) -> tuple[int, int]:
    """Bytes and CRC-32 of the file at `locator`: equal for a file and its copy in a zip.

    Raises:
        DataError: it cannot be read.
    """
    container, member = split_locator(locator)
    if container.lower().endswith(ZIP):
        archive = open_archive(container)
        return archive.size(member), archive.checksum(member)
    checksum = size = 0
    try:
        with Path(locator).open("rb") as file:
            while chunk := file.read(2**20):
                checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    except OSError as error:
        raise DataError(f"expected a file at {locator}, but it cannot be read: {error}") from error
    return size, checksum


def size_of(locator: str) -> int:
    """Bytes of the file at `locator`; -1 where there is none."""
    container, member = split_locator(locator)
    if container.lower().endswith(ZIP):
        return open_archive(container).size(member)
    try:
        return Path(locator).stat().st_size
    except OSError:
        return -1
