"""Locks between processes, held through files."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from lesion_exp.errors import ConfigError

_log = logging.getLogger(__name__)

_HELD_BY_ANOTHER: Final = (errno.EACCES, errno.EAGAIN)
_SAY_AFTER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


@contextmanager
def file_lock(path: Path, longest_wait: float | None = None) -> Iterator[None]:
    """Holds the exclusive lock on `path` (made if absent); other processes wait, a dead holder's lock is free.

    After ten seconds of waiting a warning says for what.

    Raises:
        ConfigError: the file system, or the operating system, has no file locks.
        TimeoutError: another process has held the lock for `longest_wait` seconds.
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _wait_for(path, longest_wait)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a process that was forked meanwhile has the handle, too
        handle.close()


def _wait_for(path: Path, longest_wait: float | None) -> IO[bytes]:
    _check_system()
    began, said = time.monotonic(), False
    while True:
        handle = path.open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(handle, path):
                return handle
        except OSError as error:
            if error.errno not in _HELD_BY_ANOTHER:
                handle.close()
                raise _no_locks(path, error) from error
        except BaseException:
            handle.close()
            raise
        handle.close()
        waited = time.monotonic() - began
        if longest_wait is not None and waited > longest_wait:
            raise TimeoutError(f"another process holds {path}")
        if waited > _SAY_AFTER_SECONDS and not said:
            said = True
            _log.warning("waiting for another process, which holds %s", path)
        time.sleep(_POLL_SECONDS)


_HELD: dict[Path, IO[bytes]] = {}
"""The locks of this process. Its own ones cannot be asked about: closing any handle on such a file frees the lock."""
_HOLD_WITHIN_SECONDS: Final = 1.0
"""Long enough for other processes that only ask whether the lock is held."""


def hold(path: Path) -> bool:
    """Holds `path` until `release` or the death of this process; False where it is held already.

    Unlike `file_lock` it is not passed on to forked processes, so a loader that outlives its run does not keep it.

    Raises:
        ConfigError: the file system, or the operating system, has no file locks.
        OSError: the file cannot be made.
    """
    _check_system()
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
        try:
            held = _try_lock(handle, fcntl.LOCK_EX)
        except OSError as error:
            handle.close()
            raise _no_locks(path, error) from error
        if held and _is_file(handle, path):
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
    """Whether a living process holds `path`; None where there is no such file, or no locks, so that nobody can tell."""
    path = path.absolute()
    if path in _HELD:
        return True
    try:
        with path.open("rb") as handle:
            return None if fcntl is None else not _try_lock(handle, fcntl.LOCK_SH)
    except OSError:
        return None


def check_locks(folder: Path) -> None:
    """Checks that files in `folder` (made if absent) can be locked, before anything relies on it.

    Raises:
        ConfigError: they cannot.
        OSError: the folder takes no files.
    """
    probe = folder / f".locks.{os.getpid()}"
    if hold(probe):
        release(probe)


def _try_lock(handle: IO[bytes], mode: int) -> bool:
    try:
        fcntl.lockf(handle, mode | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD_BY_ANOTHER:
            raise
        return False
    return True


def _is_file(handle: IO[bytes], path: Path) -> bool:
    """Whether `handle` is still the file at `path`, which its last holder may have removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _check_system() -> None:
    if fcntl is None:
        raise ConfigError(
            "expected an operating system with POSIX file locks, such as Linux or macOS; this one has none. On Windows "
            "run lesion-exp inside WSL (wsl --install) or in a container."
        )


def _no_locks(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"expected a file system on which files can be locked, so that processes do not write over one another; for "
        f"{path} it says: {error.strerror}. Set paths.root=FOLDER to a folder on a local disk (for predict: "
        f"output=FILE there), or ask for the file system to be mounted with locks (NFS: lock, Lustre: flock)."
    )
