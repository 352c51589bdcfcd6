"""Locks between processes, held through files."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds the exclusive lock on `path` (made if absent); other processes wait, a dead holder's lock is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


_HELD: dict[Path, IO[bytes]] = {}
"""The locks of this process. Its own ones cannot be asked about: closing any handle on such a file frees the lock."""
_HOLD_WITHIN_SECONDS: Final = 1.0
"""Long enough for other processes that only ask whether the lock is held."""


def hold(path: Path) -> bool:
    """Holds `path` until `release` or the death of this process; False where it is held already.

    Unlike `file_lock` it is not passed on to forked processes, so a loader that outlives its run does not keep it.

    Raises:
        OSError: the file cannot be made.
    """
    path = path.absolute()
    deadline = time.monotonic() + _HOLD_WITHIN_SECONDS
    while path not in _HELD:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = path.open("ab")
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            continue  # another process removed the folder just now
        if _try_lock(handle, fcntl.LOCK_EX) and _is_file(handle, path):
            _HELD[path] = handle
            return True
        handle.close()
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return False


def release(path: Path) -> None:
    """Frees `path` and removes the file."""
    handle = _HELD.pop(path.absolute(), None)
    if handle is not None:
        path.unlink(missing_ok=True)
        handle.close()


def is_held(path: Path) -> bool | None:
    """Whether a living process holds `path`; None where there is no such file, so that nobody can tell."""
    path = path.absolute()
    if path in _HELD:
        return True
    try:
        with path.open("rb") as handle:
            return not _try_lock(handle, fcntl.LOCK_SH)
    except FileNotFoundError:
        return None


def _try_lock(handle: IO[bytes], mode: int) -> bool:
    try:
        fcntl.lockf(handle, mode | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_file(handle: IO[bytes], path: Path) -> bool:
    """Whether `handle` is still the file at `path`, which its last holder may have removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
