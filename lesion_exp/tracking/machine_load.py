"""Reads the machine's load again and again while a run lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from lesion_exp.tracking.system_metrics import system_metrics


class MachineLoad:
    """Hands `system_metrics` to `record` every `seconds` in a thread of its own; 0: never."""

    def __init__(self, record: Callable[[Mapping[str, float]], object], seconds: float) -> None:
        self._record = record
        self._seconds = seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, name="machine load", daemon=True)
        if seconds:
            self._thread.start()

    def stop(self) -> None:
        """Ends reading; nothing is recorded afterwards."""
        self._ending.set()
        if self._seconds:
            self._thread.join()

    def _read(self) -> None:
        while not self._ending.is_set():
            self._record(system_metrics())
            self._ending.wait(self._seconds)
