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

log = logging.getLogger(__name__)

_HELD_BY_ANOTHER: Final = (errno.EACCES, errno.EAGAIN)
_WARN_AFTER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_HOLD_WITHIN_SECONDS: Final = 1.0
"""Seconds for which `hold` tries. A process that only tests the lock frees it much sooner."""
_held: Final[dict[Path, IO[bytes]]] = {}
"""The locks that this process holds. They cannot be tested by opening the file: closing any handle frees the lock."""


@contextmanager
def file_lock(path: Path, longest_wait: float | None = None) -> Iterator[None]:
    """Holds the exclusive lock on a file inside the block; other processes wait. A process that dies frees its locks.

    After ten seconds of waiting, a warning names the file.

    Args:
        path: the file, which is created if it does not exist.
        longest_wait: seconds after which waiting ends with TimeoutError; None: it never ends.

    Raises:
        ConfigError: the file system or the operating system has no file locks.
        TimeoutError: another process has held the lock for `longest_wait` seconds.
        OSError: the file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _wait_for(path, longest_wait)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the handle too
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
        if waited > _WARN_AFTER_SECONDS and not said:
            said = True
            log.warning("waiting for another process, which holds %s", path)
        time.sleep(_POLL_SECONDS)


def hold(path: Path) -> bool:
    """Locks `path` until `release` or the end of this process; returns False if another process holds it.

    Unlike `file_lock`, the lock is not inherited by forked processes, so that a loader process that outlives its run
    does not hold it.

    Raises:
        ConfigError: the file system or the operating system has no file locks.
        OSError: the file cannot be created.
    """
    _check_system()
    path = path.absolute()
    deadline = time.monotonic() + _HOLD_WITHIN_SECONDS
    while path not in _held:
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
            _held[path] = handle
            return True
        handle.close()
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return False


def release(path: Path) -> None:
    """Frees the lock on `path` and removes the file."""
    handle = _held.pop(path.absolute(), None)
    if handle is not None:
        path.unlink(missing_ok=True)
        handle.close()


def is_held(path: Path) -> bool | None:
    """Returns whether a running process holds `path`; None if the file does not exist or cannot be tested."""
    path = path.absolute()
    if path in _held:
        return True
    try:
        with path.open("rb") as handle:
            return None if fcntl is None else not _try_lock(handle, fcntl.LOCK_SH)
    except OSError:
        return None


def check_locks(folder: Path) -> None:
    """Checks that files in `folder`, created if it does not exist, can be locked.

    Raises:
        ConfigError: the file system or the operating system has no file locks.
        OSError: no file can be created in the folder.
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
    """Returns whether `handle` is still the file at `path`, which its last holder may have removed."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _check_system() -> None:
    if fcntl is None:
        raise ConfigError(
            "expected an operating system with POSIX file locks, such as Linux or macOS, got one without; on Windows, "
            "run lesion-exp inside WSL (wsl --install) or in a container"
        )


def _no_locks(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"expected a file system with file locks, so that processes do not overwrite one another's files, but locking "
        f"{path} failed: {error.strerror}; set paths.root=FOLDER to a folder on a local disk (for predict: output=FILE "
        f"there), or have the file system mounted with locks (NFS: lock, Lustre: flock)"
    )
