"""The base class of launchers, which start cells and notice their ends, and the process of a cell."""

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
from typing import Any, ClassVar, Final

from lesion_exp.config.annotated import check_annotated
from lesion_exp.config.instantiate import check_installed, instantiate
from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import refuse_group
from lesion_exp.process.signals import interrupt_on_sigint
from lesion_exp.sweeps.cell import STARTER, Cell
from lesion_exp.sweeps.ledger import Sweep

POLL_SECONDS: Final = 0.2
ENDING_SECONDS: Final = 60.0
"""Time that a cell has to close its run after SIGTERM."""


@dataclass(frozen=True)
class Ended:
    """A cell whose process has ended."""

    cell: Cell
    reason: str | None = None
    """What the engine reports of a process that could not record its end, such as the signal that killed it."""


class Launcher(ABC):
    """Base class of the options of `conf/launcher`; the constructor starts nothing."""

    here: ClassVar[bool] = True
    """Whether the cells run on this machine, so that devices and data can be checked here."""
    fail_fast: bool
    """Whether the first failed cell ends the sweep."""

    @property
    def other_machines(self) -> bool:
        """Whether cells may run on other machines, which then write to the same store."""
        return not self.here

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The number of cells that may run, or be submitted, at a time."""

    def check(self) -> None:  # noqa: B027 (most engines need nothing)
        """Checks, before anything is written, that cells can be started from this machine.

        Raises:
            ConfigError: the engine is missing.
        """

    def warm_up(self) -> None:  # noqa: B027 (most engines have nothing to begin)
        """Starts slow preparations in the background, which do no harm if the sweep is refused; `close` ends them."""

    @abstractmethod
    def open(self, sweep: Sweep) -> None:
        """Prepares for the cells of `sweep`.

        Raises:
            ConfigError: the engine or a device is missing, or a setting cannot be used.
        """

    def adopt(self, cell: Cell) -> bool:
        """Takes over a cell that an earlier driver submitted; returns whether the engine still runs it."""
        return False

    @abstractmethod
    def start(self, cells: Sequence[Cell]) -> None:
        """Starts the processes of `cells`."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Waits until a cell ends, at most `seconds`; returns the cells that have ended."""

    @abstractmethod
    def stop(self) -> None:
        """Asks every started cell to end; `wait` then returns them."""

    def cancel(self, sweep: Sweep) -> bool:
        """Ends the cells of a sweep that no process drives; returns whether it is certain that no cell runs."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Releases the resources of `open`, after all cells have ended."""


class CellProcess:
    """A process that runs the cell in `folder`, with `variables` added to the environment.

    Variables whose name begins with one of `without` are removed: Lightning would use those of the engine. `starter`
    are the words of a module that starts several processes of the cell in the place of one (`several_nodes.py`). The
    process and its children ignore the signals `ignored`, which an engine sends to all processes of a job.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        without: Sequence[str],
        starter: Sequence[str] = (),
        ignored: Sequence[signal.Signals] = (),
    ) -> None:
        def ignore() -> None:
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        kept = {name: text for name, text in os.environ.items() if not name.startswith(tuple(without))}
        parent = STARTER if starter else str(os.getpid())
        cell = ("-m", "lesion_exp.sweeps.run_cell", str(folder), parent)
        with (folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *starter, *cell],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **variables},
                start_new_session=True,
                preexec_fn=ignore if ignored else None,  # what is ignored stays so in the program
            )

    def wait(self) -> int:
        """Waits for the end and returns the exit code, the negative number of the signal if a signal ended it.

        An exception while waiting, of a signal or of the engine, ends the cell as well.
        """
        try:
            while self._is_alive():
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.end()
            raise
        return self._process.wait()

    def end(self) -> None:
        """Ends the process and returns when it has ended; a signal handler may call it while `wait` waits."""
        if self._is_alive():
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDING_SECONDS
        while self._is_alive() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if self._is_alive():
            os.kill(self._process.pid, signal.SIGKILL)

    def _is_alive(self) -> bool:
        """Whether the process runs; the exit code is not collected, since `end` may interrupt `wait`."""
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def run_cell_process(folder: str, variables: Mapping[str, str], without: Sequence[str]) -> int:
    """Runs the cell in `folder` in a worker of Ray, and returns its exit code.

    Cancelling the task raises KeyboardInterrupt, which ends the cell; with SIGINT ignored, Ray would do nothing.
    """
    interrupt_on_sigint()
    return CellProcess(Path(folder), variables, without).wait()


def make_launcher(node: dict[str, Any]) -> Launcher:
    """Builds the launcher that a node `launcher` describes; it starts and writes nothing yet.

    Raises:
        ConfigError: the target is no launcher or refuses its parameters, a package or an engine is missing, or this
            process is one of several that were started together.
    """
    refuse_group("a sweep")
    check_installed({"launcher": node})
    check_annotated(node, "launcher")
    launcher = instantiate(node, "launcher")
    if not isinstance(launcher, Launcher):
        raise ConfigError(
            f"expected a class derived from Launcher in launcher._target_, got {node['_target_']}; set launcher=local"
        )
    launcher.check()
    return launcher
