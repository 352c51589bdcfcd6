"""How a process ends when somebody stops it, or when the process that started it is gone."""

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
    """Turns SIGTERM into SystemExit(143), so that what is open is closed and the run is marked KILLED.

    The first one only: schedulers send it to every process, and so do the parents of those, in the midst of closing.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def stops_stay_stops() -> Iterator[None]:
    """A stop by SIGTERM or Ctrl-C leaves the block as what it is, whatever exception became of it.

    Python raises it wherever the main thread happens to be. Inside `torch.save` that is a callback of native code,
    which turns every exception into a RuntimeError of its own, and a stopped run would be a failed one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        handler = handlers[signal.Signals(number)]
        assert callable(handler), "only such are replaced"
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
    """Has the kernel send SIGTERM to this process when its parent, process `parent`, ends in any way (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
