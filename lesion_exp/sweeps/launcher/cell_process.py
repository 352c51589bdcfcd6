"""A cell as a child of an engine's process: SLURM's task, Ray's worker.

It imports only the standard library, so that the engine's process starts quickly, and the cell's messages, environment
and signals stay its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.2
ENDING_SECONDS: Final = 60.0
"""What a cell has to close its run in after SIGTERM."""


def run_attended(folder: str, variables: Mapping[str, str], without: Sequence[str]) -> int:
    """The exit code of the cell in `folder`; what a worker of Ray does.

    Cancelling the task raises KeyboardInterrupt here, which ends the cell.
    """
    return CellProcess(Path(folder), variables, without).wait()


class CellProcess:
    """Starts `run_cell` on the cell in `folder`, with `variables` added to the environment.

    Variables whose name begins with one of `without` are left out: Lightning would take the engine's for its own.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], without: Sequence[str]) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(tuple(without))}
        with (folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lesion_exp.sweeps.run_cell", str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **variables},
                start_new_session=True,
            )

    def wait(self) -> int:
        """Its exit code, once it is over; minus the signal's number where a signal ended it.

        Whatever interrupts the waiting, an exception of a signal or of the engine, ends the cell, too.
        """
        try:
            while self._is_alive():
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.end()
            raise
        return self._process.wait()

    def end(self) -> None:
        """Asks it to end, and returns when it has; may be called by a signal's handler while `wait` waits."""
        if self._is_alive():
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDING_SECONDS
        while self._is_alive() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if self._is_alive():
            os.kill(self._process.pid, signal.SIGKILL)

    def _is_alive(self) -> bool:
        """Without collecting the exit code: two frames of one thread may ask at once."""
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
