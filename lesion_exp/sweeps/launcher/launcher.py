"""What a launcher is: it starts the processes of cells, and notices when they are over. The ledger does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.ledger import Sweep


@dataclass(frozen=True)
class Ended:
    """A cell whose process is over."""

    cell: Cell
    reason: str | None = None
    """What the engine says of a process that left no word of its own, such as the signal that killed it."""


class Launcher(ABC):
    """Base of the options of `conf/launcher`; constructing one starts nothing."""

    here: ClassVar[bool] = True
    """Whether the cells run on this machine, so that what they need can be looked for here."""
    fail_fast: bool
    """Whether the first cell that fails ends the sweep."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many cells may be started and not yet over at a time."""

    def check(self) -> None:  # noqa: B027 (most engines need nothing)
        """Checks, before anything is written, that cells can be started from this machine.

        Raises:
            ConfigError: the engine is not there.
        """

    def warm_up(self) -> None:  # noqa: B027 (most engines have nothing to begin)
        """Begins in the background what takes seconds and does no harm if the sweep is refused; `close` ends it."""

    @abstractmethod
    def open(self, sweep: Sweep) -> None:
        """Gets ready for the cells of `sweep`.

        Raises:
            ConfigError: the engine, a device or a setting that is not there.
        """

    def adopt(self, cell: Cell) -> bool:
        """Whether the engine is still busy with a cell that an earlier driver gave it; then it counts as started."""
        return False

    @abstractmethod
    def start(self, cells: Sequence[Cell]) -> None:
        """Starts the processes of `cells`."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Cells that ended, as soon as there is one; an empty list after `seconds`."""

    @abstractmethod
    def stop(self) -> None:
        """Asks every started cell to end; `wait` then returns them."""

    def cancel(self, sweep: Sweep) -> bool:
        """Ends what the engine still has of a sweep that nobody drives; whether it surely has nothing afterwards."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Gives back what `open` took; no cell is running any more."""


POLL_SECONDS: Final = 0.2
ENDING_SECONDS: Final = 60.0
"""What a cell has to close its run in after SIGTERM."""


def run_cell_process(folder: str, variables: Mapping[str, str], without: Sequence[str]) -> int:
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
