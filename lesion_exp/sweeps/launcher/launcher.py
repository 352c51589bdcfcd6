"""What a launcher is: it starts the processes of cells, and notices when they are over. The ledger does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

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
