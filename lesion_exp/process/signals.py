"""Ends a process in order when it is stopped, or when the process that started it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SET_PARENT_DEATH_SIGNAL: Final = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl."""


def end_on_sigterm() -> None:
    """Turns SIGTERM into SystemExit(143), so that open files are closed and the run is marked KILLED.

    Only the first signal does so: schedulers send it to every process, and parents send it again while the process is
    closing.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


def interrupt_on_sigint() -> None:
    """Lets SIGINT raise KeyboardInterrupt; a command that a shell starts in the background ignores it at first."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def preserve_stop_signals() -> Iterator[None]:
    """Leaves the block with SystemExit after SIGTERM and KeyboardInterrupt after Ctrl-C, whatever was raised instead.

    Python raises these exceptions wherever the main thread is. Inside `torch.save` that may be a callback of native
    code, which turns every exception into a RuntimeError, so that a stopped run would be marked FAILED.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        handler = handlers[signal.Signals(number)]
        assert callable(handler), "only callable handlers are replaced"
        handler(number, frame)

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    except Exception as error:
        if not asked:
            raise
        raise (SystemExit(128 + asked[0]) if asked[0] == signal.SIGTERM else KeyboardInterrupt()) from error
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)


def end_with_parent(parent: int) -> None:
    """Asks the kernel to send SIGTERM to this process when its parent, process `parent`, ends (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
