"""Locks between processes, held through files."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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


_HELD: dict[Path, IO[str]] = {}
"""The locks of this process. Its own ones cannot be asked about: closing any handle on such a file frees the lock."""


def hold(path: Path) -> bool:
    """Holds `path` until `release` or the death of this process; False where another process holds it.

    Unlike `file_lock` it is not passed on to forked processes, so a loader that outlives its run does not keep it.
    """
    path = path.absolute()
    if path in _HELD:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return False
    _HELD[path] = handle
    return True


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
    if not path.exists():
        return None
    with path.open("a") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
