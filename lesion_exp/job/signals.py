"""How a process ends when somebody stops it, or when the process that started it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
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


def end_with_parent(parent: int) -> None:
    """Has the kernel send SIGTERM to this process when its parent, process `parent`, ends in any way (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
