"""How many pixels are unpacked at the same time, so that large images wait for each other and small ones do not."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LARGE: Final = 4_000_000
"""Pixels from which on an image leaves so much memory behind that it is worth giving back at once."""


class PixelBudget:
    """Room for `most` pixels; an image of more has it alone. To be used by several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Waits until there is room for `count` pixels, which are in use until the end of the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= self._most)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
            if count >= _LARGE:
                give_memory_back()


def give_memory_back() -> None:
    """Has the C library return what it holds and nobody uses; it would keep it for the next large image."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others do without
        if trim is not None:
            trim(0)
