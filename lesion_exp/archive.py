"""Reads zips, also zips inside zips, as if they were folders.

A *locator* names a file on the disk (`/data/a.jpg`), or a member of a container: `/data/images.zip!/a.jpg`,
`/data/download.zip!/images.zip!/a.jpg`, `/data/train.hdf5!/ISIC_0015670`, `/data/dermamnist.npz!/train_images/17`.
Names of members that a Windows program wrote with backslashes are given with slashes.
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
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Final

from lesion_exp.errors import DataError

log = logging.getLogger(__name__)

SEPARATOR: Final = "!/"
ZIP: Final = ".zip"
MAX_DEPTH: Final = 3
"""Greatest number of zips inside one another, because a zip can be made that contains itself."""
_CONTAINER: Final = re.compile(r"\.(?:zip|npz|hdf5|h5)(?=!/)", re.IGNORECASE)
_ENCRYPTED: Final = 0x1
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
"""The header before a member's bytes, read for the lengths of its name and of its extra field."""
_LOGGED_MEGABYTES: Final = 50
"""Size of an inner zip from which on the log says that unpacking it takes time."""


def file_of(locator: str) -> str:
    """Returns the path on the disk of the file that contains `locator`."""
    found = _CONTAINER.search(locator)
    return locator[: found.end()] if found else locator


def split_locator(locator: str) -> tuple[str, str]:
    """Returns the innermost container of `locator`, as a locator, and the member; ("", path) for a plain file."""
    ends = [found.end() for found in _CONTAINER.finditer(locator)]
    return (locator[: ends[-1]], locator[ends[-1] + len(SEPARATOR) :]) if ends else ("", locator)


def join_locator(container: str, member: str) -> str:
    """Returns the locator of `member` in `container`."""
    return f"{container}{SEPARATOR}{member}"


class Archive:
    """An open zip. Several threads may read from it at the same time.

    Args:
        locator: where the zip lies, for messages.
        source: the open file; it must be seekable.

    Raises:
        DataError: the file is not a zip, or the zip needs a password.
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
                f"expected a zip without a password at {locator}, but its files are encrypted; unpack it yourself "
                f"and move the zip out of the folder"
            )

    @property
    def names(self) -> list[str]:
        """The names of the files in the zip, sorted, without folders."""
        return sorted(name for name in self.members if name and not name.endswith("/"))

    def size(self, name: str) -> int:
        """Returns the size of a member in bytes after unpacking.

        Raises:
            DataError: there is no such member.
        """
        return self._member(name).file_size

    def checksum(self, name: str) -> int:
        """Returns the CRC-32 of a member's bytes, as recorded in the zip's directory.

        Raises:
            DataError: there is no such member.
        """
        return self._member(name).CRC

    def read(self, name: str) -> bytes:
        """Returns the bytes of a member.

        Raises:
            DataError: there is no such member.
        """
        info = self._member(name)
        with self._lock:
            return self._zip.read(info)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self.members:
            raise DataError(f"expected {name} in the zip {self.locator}, but it has no such file; correct the name")
        return self.members[name]

    def open_zip(self, name: str) -> IO[bytes]:
        """Opens a zip inside this zip: as a view of the outer file if it is stored uncompressed, else unpacked.

        Raises:
            DataError: there is no such member, or not enough room on the disk to unpack it.
        """
        info = self._member(name)
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
                f"expected {info.file_size:,} free bytes in {tempfile.gettempdir()} for {name}, which lies "
                f"compressed in {self.locator}, got {free:,}; {remedy}, or set TMPDIR to a folder with more room"
            )
        if info.file_size > _LOGGED_MEGABYTES * 2**20:
            log.info("%s is compressed in %s and has to be unpacked by every command; to save that time, %s", name,
                     self.locator, remedy)  # fmt: skip
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the file must stay open as long as the zip in it
        with self._zip.open(info) as member:
            shutil.copyfileobj(member, unpacked, 2**20)
        unpacked.seek(0)
        return unpacked


class _Slice(io.RawIOBase):
    """A range of bytes of an open file as a separate file. Reading it does not move the position of the other."""

    def __init__(self, source: IO[bytes], start: int, length: int) -> None:
        self._source = source  # keeps the file open
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
            raise ValueError(f"negative seek position: {self._place}")
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
    """Returns the open zip at `locator` (a file, or a member of a zip). Each process opens a zip once.

    Raises:
        DataError: the zip cannot be opened, needs a password, or lies in too many others.
    """
    if locator.count(SEPARATOR) >= MAX_DEPTH:
        raise DataError(f"expected at most {MAX_DEPTH} zips inside one another, got {locator}; unzip the outer ones")
    try:
        status = Path(file_of(locator)).stat()
    except OSError as error:
        raise DataError(
            f"expected a zip at {file_of(locator)}, but it cannot be opened: {error}; correct the path"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"expected a regular file at {file_of(locator)}, got a folder, pipe or device; name the zip itself"
        )
    with _opening:
        return _opened(locator, status.st_size, status.st_mtime_ns, os.getpid())


_opening: Final = threading.RLock()
"""Held while a zip is opened, so that several threads do not unpack the same zip."""


@lru_cache(maxsize=64)
def _opened(locator: str, size: int, changed: int, process: int) -> Archive:
    """Opens a zip. A file that has changed, and another process, have another key: a fork must not share handles."""
    container, member = split_locator(locator)
    try:
        if not container:
            return Archive(locator, Path(locator).open("rb"))
        return Archive(locator, open_archive(container).open_zip(member))
    except NotImplementedError as error:  # zipfile raises it for a compression method that it does not know: Deflate64
        raise DataError(
            f"expected a zip at {locator} with a compression that Python supports, got another ({error}); unzip "
            f"{file_of(locator)} with the program that made it, and move the zip out of the folder"
        ) from error
    except (OSError, LookupError, zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(f"expected a zip at {locator}, but it cannot be opened: {error}; download it again") from error


def members_of(locator: str) -> Iterator[str]:
    """Yields the locators of all files in the zip at `locator` and in the zips inside it, except for clutter.

    Raises:
        DataError: one of the zips cannot be opened.
    """
    for name in open_archive(locator).names:
        if is_clutter(part for part in name.split("/") if part != "."):
            continue
        inner = join_locator(locator, name)
        if name.lower().endswith(ZIP):
            yield from members_of(inner)
        else:
            yield inner


def is_clutter(parts: Iterable[str]) -> bool:
    """Returns whether a path belongs to the operating system: a hidden file or folder, or one in `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def size_and_checksum(locator: str) -> tuple[int, int]:
    """Returns the size in bytes and the CRC-32 of the file at `locator`: equal for a file and its copy in a zip.

    Raises:
        DataError: the file cannot be read.
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
        raise DataError(
            f"expected a file at {locator}, but it cannot be read: {error}; correct the path, or restore the file"
        ) from error
    return size, checksum


def size_of(locator: str) -> int:
    """Returns the size in bytes of the file at `locator`, or -1 if there is no such file."""
    container, member = split_locator(locator)
    if container.lower().endswith(ZIP):
        archive = open_archive(container)
        return archive.size(member) if member in archive.members else -1
    try:
        return Path(locator).stat().st_size
    except OSError:
        return -1
