"""The task of a SLURM job: submitit unpickles a `CellTask` on the node and calls it."""

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
    """Runs one cell, and lets it close its run before SLURM ends the job.

    Before the time limit SLURM sends the signal that submitit handles: it calls `checkpoint` and queues the job again.
    On pre-emption, `scontrol requeue` and `scancel` SLURM sends SIGTERM, and may queue the job again itself. A job that
    runs again finds the cell queued and continues from its checkpoint.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], without: Sequence[str]) -> None:
        self.folder, self.variables, self.without = folder, dict(variables), tuple(without)
        self._process: CellProcess | None = None

    def __call__(self) -> int:
        """Returns 0 when the cell is done; otherwise the process ends with the exit code of the cell."""
        signal.signal(signal.SIGTERM, _end)
        self._process = CellProcess(self.folder, self.variables, self.without)
        code = self._process.wait()
        if code:
            sys.exit(code if code > 0 else 128 - code)
        return 0

    def checkpoint(self) -> Any:
        """Ends the cell, and returns the same task for the requeued job."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing sends SIGTERM before submitit is done
        if self._process is not None:
            self._process.end()
        submission = importlib.import_module("submitit.helpers").DelayedSubmission
        return submission(CellTask(self.folder, self.variables, self.without))


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)
