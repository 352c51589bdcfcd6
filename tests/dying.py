"""A process that is killed at its n-th operation on files or databases: for each n, what is left must be usable."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

COUNTED = (
    "os.rename",
    "os.remove",
    "os.link",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "shutil.rmtree",
    "sqlite3.connect",
)
"""Audit events that count, beside every file that is opened for writing."""


def count_operations(action: Callable[[], object], folder: os.PathLike[str]) -> int:
    """How many operations `action` does below `folder`, in a process of its own, without being killed."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_run, args=(action, str(folder), None, signal.SIGKILL, sender))
    process.start()
    sender.close()
    number = receiver.recv() if receiver.poll(120) else None
    process.join()
    assert number is not None, "the action failed by itself"
    return int(number)


def die_at(
    number: int, action: Callable[[], object], folder: os.PathLike[str], how: signal.Signals = signal.SIGKILL
) -> int:
    """Runs `action` in a process of its own that gets the signal before its `number`-th operation; its exit code."""
    process = get_context("fork").Process(target=_run, args=(action, str(folder), number, how, None))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(action: Callable[[], object], folder: str, last: int | None, how: signal.Signals, sender: object) -> None:
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    count = 0

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if not _counts(event, arguments, folder):
            return
        count += 1
        if count == last:
            os.kill(os.getpid(), how)

    code = 1
    with contextlib.suppress(BaseException):
        if how == signal.SIGTERM:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        sys.addaudithook(note)
        action()
        code = 0
        if sender is not None:
            sender.send(count)  # type: ignore[attr-defined]
    os._exit(code)


def _counts(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    path = str(os.fsdecode(arguments[0])) if arguments and isinstance(arguments[0], str | bytes | os.PathLike) else ""
    if event == "open":
        flags = arguments[2]
        return folder in path and isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in COUNTED and folder in path
