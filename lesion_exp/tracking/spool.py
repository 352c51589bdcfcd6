"""The spool of a run: a queue on disk of the data that the run has to upload to its store."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from lesion_exp.data.lock import hold, release

Entry = dict[str, Any]
"""An entry of the queue: its `kind` (`metrics`, `params`, `tags`, `file`, `inputs`, `status`) and its content."""

SPOOL_DIR: Final = "spool"
"""Name of the folder in a run's live folder."""
LOCK_FILE: Final = "lock"
"""Name of the lock beside it, held by the process that works on the run or uploads its spool."""
LARGEST_SEGMENT: Final = 4_000_000
"""Largest size of a journal file in bytes; an interrupted upload begins again at the start of a file."""
_HEADER: Final = "run.json"
_REFUSED: Final = "refused.jsonl"


class SpoolHeld(Exception):  # noqa: N818  (a state, not an error)
    """Another process holds the spool: it works on the run, or uploads its spool."""


class Spool:
    """A queue of entries in a folder, in journal files of JSON lines. Instances are thread-safe.

    An entry is in a file when `add` returns, so neither a lost connection nor `kill -9` loses it; `sync` also protects
    it against a power cut. Entries are taken from the front, and a journal file is removed once all of its entries are
    taken. After a kill, part of one file is uploaded again, which does not change anything in MLflow.

    Raises:
        SpoolHeld: another process holds the spool.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock_path = folder.with_name(LOCK_FILE)
        if not hold(self._lock_path):
            raise SpoolHeld(str(folder))
        self._closed = False
        self._mutex = threading.Lock()
        self._writing: IO[bytes] | None = None
        self._reading: IO[bytes] | None = None
        self._ahead: deque[Entry] = deque()
        self._taken_copies: list[Path] = []
        numbers = [int(path.stem) for path in self._segments()]
        self._number = max(numbers, default=0)
        self._waiting = sum(1 for path in self._segments() for _ in _lines(path))
        (folder / "files").mkdir(parents=True, exist_ok=True)

    @property
    def waiting(self) -> int:
        """The number of entries that are not uploaded."""
        return self._waiting

    @property
    def refused(self) -> int:
        """The number of entries that the store refused permanently."""
        path = self.folder / _REFUSED
        return sum(1 for _ in _lines(path)) if path.exists() else 0

    def last_written(self) -> float:
        """Returns the time of the last waiting entry, seconds since 1970; 0 if no entry waits."""
        return max((path.stat().st_mtime for path in self._segments()), default=0.0)

    def describe(self, header: dict[str, str]) -> None:
        """Writes the header, which identifies the run for a later upload."""
        partial = self.folder / f".{_HEADER}.part"
        partial.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.folder / _HEADER)

    def add(self, kind: str, **content: Any) -> None:
        """Appends an entry; returns at once."""
        line = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self._mutex:
            if self._writing is None or self._writing.tell() > LARGEST_SEGMENT:
                self._seal()
                self._number += 1
                self._writing = (self.folder / f"{self._number:08d}.jsonl").open("ab", buffering=0)
            _append(self._writing, line)
            self._waiting += 1

    def add_file(self, source: Path, artifact_path: str) -> None:
        """Appends a file; it is copied, so that later changes of `source` do not matter."""
        copy = self.folder / "files" / uuid.uuid4().hex
        with source.open("rb") as original, copy.open("wb") as target:
            shutil.copyfileobj(original, target, 1 << 20)
            os.fsync(target.fileno())
        self.add("file", path=artifact_path, copy=copy.name)

    def file(self, entry: Entry) -> Path:
        """Returns the path of the copy of the file of an entry."""
        return self.folder / "files" / str(entry["copy"])

    def front_bytes(self) -> int:
        """Returns the size in bytes of the file at the front of the queue; 0 for another kind of entry."""
        with self._mutex:
            first = self._ahead[0] if self._ahead else None
        try:
            return self.file(first).stat().st_size if first and first["kind"] == "file" else 0
        except FileNotFoundError:
            return 0

    def peek(self, count: int) -> list[Entry]:
        """Returns the next entries, at most `count`; they stay in the queue until `take`."""
        with self._mutex:
            while len(self._ahead) < count and (line := self._next_line()) is not None:
                self._ahead.append(json.loads(line))
            return [self._ahead[index] for index in range(min(count, len(self._ahead)))]

    def take(self, count: int) -> None:
        """Removes the first `count` entries, which have been uploaded."""
        with self._mutex:
            for _ in range(count):
                entry = self._ahead.popleft()
                self._waiting -= 1
                if entry["kind"] == "file" and not entry.get("kept"):
                    self._taken_copies.append(self.file(entry))
            if not self._ahead:
                self._drop_read_segment()

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Moves the first entry, which the store refuses, from the queue to a separate file."""
        with (self.folder / _REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, "refused": reason}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with self._mutex:
            self._ahead[0]["kept"] = True
        self.take(1)

    def retry_refused(self) -> None:
        """Appends the entries that were refused before to the queue."""
        path = self.folder / _REFUSED
        if path.exists():
            for line in list(_lines(path)):
                entry = json.loads(line)
                entry.pop("refused")
                self.add(entry.pop("kind"), **entry)
            self.sync()
            path.unlink()

    def sync(self) -> None:
        """Flushes the added entries to the disk."""
        with self._mutex:
            if self._writing is not None:
                os.fsync(self._writing.fileno())

    def close(self) -> None:
        """Releases the spool; an empty one is removed first."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._seal()
            if self._reading is not None:
                self._reading.close()
            if not self._waiting and not self.refused:
                shutil.rmtree(self.folder, ignore_errors=True)
            release(self._lock_path)

    def _segments(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.jsonl") if path.stem.isdigit())

    def _seal(self) -> None:
        if self._writing is not None:
            os.fsync(self._writing.fileno())
            self._writing.close()
            self._writing = None

    def _next_line(self) -> bytes | None:
        while True:
            if self._reading is not None and (line := self._reading.readline()).endswith(b"\n"):
                return line
            if self._reading is not None and self._ahead:
                return None  # entries of this file are not taken yet, so it must not be removed
            self._drop_read_segment()
            segments = self._segments()
            if not segments:
                return None
            if self._writing is not None and Path(self._writing.name) == segments[0]:
                self._seal()
            self._reading = segments[0].open("rb")

    def _drop_read_segment(self) -> None:
        """Removes the current journal file at its end, together with the copies of its files."""
        if self._reading is None:
            return
        if self._reading.read(1):
            self._reading.seek(-1, os.SEEK_CUR)
            return
        Path(self._reading.name).unlink()
        self._reading.close()
        self._reading = None
        for copy in self._taken_copies:
            copy.unlink(missing_ok=True)
        self._taken_copies.clear()


def read_header(folder: Path) -> dict[str, str] | None:
    """Returns the header that `Spool.describe` wrote; None if there is no spool in `folder`."""
    try:
        header: dict[str, str] = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return header


def _append(file: IO[bytes], line: bytes) -> None:
    """Writes all of `line`, or nothing of it if the disk is full, so that the next line starts correctly."""
    begin = file.tell()
    written = 0
    try:
        written = file.write(line)
    finally:
        if written != len(line):
            file.truncate(begin)
    if written != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the complete lines of a journal; a killed process may have left an incomplete line at the end."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))
