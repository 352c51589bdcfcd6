"""What SLURM's nodes do: submitit unpickles a `CellTask` there and calls it."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lesion_exp.sweeps.launcher.launcher import CellProcess


class CellTask:
    """Runs one cell; both ways in which SLURM takes its node away let the cell close its run first.

    Before the time limit SLURM sends the signal that submitit waits for, which calls `checkpoint` and queues the job
    again. On pre-emption, `scontrol requeue` and `scancel` it sends SIGTERM, and queues the job again itself, or not.
    A job that runs again finds the cell queued and goes on from its checkpoint.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], without: Sequence[str]) -> None:
        self.folder, self.variables, self.without = folder, dict(variables), tuple(without)
        self._process: CellProcess | None = None

    def __call__(self) -> int:
        """Returns 0 when the cell is done; otherwise this process ends with the cell's exit code."""
        signal.signal(signal.SIGTERM, _end)
        self._process = CellProcess(self.folder, self.variables, self.without)
        code = self._process.wait()
        if code:
            sys.exit(code if code > 0 else 128 - code)
        return 0

    def checkpoint(self) -> Any:
        """Ends the cell, and says what the queued job does: the same."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # queueing again sends it, and submitit is not done yet
        if self._process is not None:
            self._process.end()
        submission = importlib.import_module("submitit.helpers").DelayedSubmission
        return submission(CellTask(self.folder, self.variables, self.without))


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)
